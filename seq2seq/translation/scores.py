"""BLEU and chrF by sacreBLEU, with their signatures."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import PairedTest, Result


def bleu_tokenizer(language: str) -> str:
    """sacreBLEU's tokenizer for a target language: zh, ja-mecab (char without MeCab), or 13a."""
    if language.startswith("zh"):
        return "zh"
    if language.startswith("ja"):
        return (
            "ja-mecab"
            if importlib.util.find_spec("MeCab") and importlib.util.find_spec("ipadic")
            else "char"
        )
    return "13a"


@dataclass
class Scores:
    """Corpus scores of detokenized text."""

    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str


def check_counts(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    """ValueError where there is not one hypothesis a reference."""
    if len(hypotheses) != len(references) or not references:
        raise ValueError(
            f"{len(hypotheses)} hypotheses for {len(references)} references: expected one each, and"
            " some"
        )


def score(hypotheses: Sequence[str], references: Sequence[str], language: str) -> Scores:
    """BLEU and chrF of hypotheses against one reference each, in the target language."""
    check_counts(hypotheses, references)
    bleu, chrf = BLEU(tokenize=bleu_tokenizer(language)), CHRF()
    bleu_score, chrf_score = (
        metric.corpus_score(hypotheses, [references]) for metric in (bleu, chrf)
    )
    return Scores(
        bleu_score.score,
        chrf_score.score,
        f"{bleu_score.name}|{bleu.get_signature()}",
        f"{chrf_score.name}|{chrf.get_signature()}",
    )


@dataclass
class Comparison:
    """A system beside the first one: Koehn 2004's paired bootstrap."""

    name: str
    bleu: float
    mean: float
    interval: float
    """Half the width of the 95% confidence interval of BLEU."""
    p_value: float | None
    """Of the difference from the first system; None for the first itself."""


def paired_bootstrap(
    systems: dict[str, list[str]], references: list[str], language: str, samples: int = 1000
) -> tuple[str, list[Comparison]]:
    """Compare systems by name with the first of them, on the same references: a signature and a row
    each.
    """
    for hypotheses in systems.values():
        check_counts(hypotheses, references)
    named: list[tuple[str, Sequence[str]]] = list(systems.items())
    test = PairedTest(
        named,
        {"BLEU": BLEU(tokenize=bleu_tokenizer(language), references=[references])},
        references=[references],
        test_type="bs",
        n_samples=samples,
    )
    signatures, results = test()
    rows = []
    for (name, _), result in zip(named, results["BLEU"], strict=True):
        assert isinstance(result, Result)
        assert result.mean is not None
        assert result.ci is not None
        rows.append(Comparison(name, result.score, result.mean, result.ci, result.p_value))
    return str(signatures["BLEU"]), rows
