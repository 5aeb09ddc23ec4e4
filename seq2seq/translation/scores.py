"""BLEU and chrF by sacreBLEU with their signatures, and paired significance tests."""

from collections.abc import Sequence
from dataclasses import dataclass

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import PairedTest, Result

from ..config.languages import bleu_tokenizer


@dataclass
class Scores:
    """Corpus scores of detokenized text, 0 to 100, with sacreBLEU's signatures."""

    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str


def check_counts(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    """Raise ValueError unless there are references, and one hypothesis for each."""
    if len(hypotheses) != len(references) or not references:
        raise ValueError(
            f"{len(hypotheses)} hypotheses for {len(references)} references: expected as many, and"
            " at least one"
        )


def score(hypotheses: Sequence[str], references: Sequence[str], language: str) -> Scores:
    """Return BLEU and chrF of hypotheses against one reference each, in the target language."""
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
    """A system compared with the first one by paired bootstrap resampling (Koehn 2004)."""

    name: str
    bleu: float
    mean: float
    """Mean BLEU of the resampled test sets."""
    interval: float
    """Half the width of the 95% confidence interval of BLEU."""
    p_value: float | None
    """Significance of the difference from the first system; None for the first itself."""


def paired_bootstrap(
    systems: dict[str, list[str]], references: list[str], language: str, samples: int = 1000
) -> tuple[str, list[Comparison]]:
    """Return the BLEU signature and a comparison of each named system with the first one.

    All are hypotheses for the same references. `samples` test sets are drawn.
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
