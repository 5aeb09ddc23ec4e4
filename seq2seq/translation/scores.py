"""BLEU, chrF and TER by sacreBLEU with their signatures, and paired significance tests.

Hypotheses and references are compared in one form, that of target text in training. It is Unicode's
NFC: a letter with an accent is the same whether it is written as one character or as two. HTML
entities count as the characters that they stand for, also where a text means the entity itself.
Marks of the writing direction and other invisible characters do not count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import PairedTest, Result

from ..config.languages import language
from ..data.normalization import comparable
from ..shown import brief, counted

BLEU_ORDER = 4
"""BLEU counts sequences of 1 to so many tokens."""
CHRF_WORDS = 2
"""chrF++ counts sequences of 1 to so many words (Popović 2017)."""
COMPARED = (
    "in Unicode NFC, with HTML entities as characters, without direction marks, soft hyphens and"
    " zero-width spaces"
)
"""The form in which texts are compared, in words."""
TOKENIZED_LINES = 100
"""So many lines that end in a separate full stop look tokenized (sacreBLEU's own number)."""
PACKAGES = {"ja-mecab": "ja", "ko-mecab": "ko"}
"""Tokenizer -> the extra of this project that installs what it needs."""


@dataclass
class Scores:
    """Corpus scores of detokenized text, 0 to 100, with sacreBLEU's signatures."""

    bleu: float
    chrf: float
    bleu_signature: str
    chrf_signature: str
    is_smoothing: bool = False
    """Whether BLEU is nothing but its smoothing: no sequence of four tokens is right."""


# -- metrics ---


def bleu_metric(tokenizer: str, lowercase: bool = False) -> BLEU:
    """Return BLEU with one of sacreBLEU's tokenizers; ValueError where it cannot be loaded.

    `force` keeps sacreBLEU from warning at each call; see `tokenized_remark`.
    """
    try:
        return BLEU(tokenize=tokenizer, lowercase=lowercase, force=True)
    except (RuntimeError, ImportError, AssertionError) as error:
        extra = PACKAGES.get(tokenizer, "app")
        raise ValueError(
            f"data.bleu_tokenizer={tokenizer}: cannot be loaded; it needs pip install"
            f" 'seq2seq[{extra}]' (char needs nothing)"
        ) from error
    except OSError as error:
        raise ValueError(
            f"data.bleu_tokenizer={tokenizer}: sacreBLEU cannot download its model"
            f" ({brief(str(error))}); expected a network, or another tokenizer such as 13a or char"
        ) from error


def ter_metric(target_language: str) -> TER | None:
    """Return TER for a language; None where it has no meaning.

    TER counts edits of words between spaces. sacreBLEU separates the characters of Chinese and
    Japanese, and of no other text without spaces.
    """
    written = language(target_language)
    asian = written.is_chinese or written.is_japanese
    if not (asian or written.has_spaces):
        return None
    return TER(normalized=asian, asian_support=asian)


def metrics(
    tokenizer: str, target_language: str, lowercase: bool = False, chrf_words: bool = False
) -> dict[str, Metric]:
    """Return BLEU, chrF, chrF++ on request (`chrf_words`), and TER where it has a meaning.

    Their keys are bleu, chrf, chrf++ and ter.
    """
    found: dict[str, Metric] = {
        "bleu": bleu_metric(tokenizer, lowercase),
        "chrf": CHRF(lowercase=lowercase),
    }
    if chrf_words:
        found["chrf++"] = CHRF(lowercase=lowercase, word_order=CHRF_WORDS)
    ter = ter_metric(target_language)
    return found if ter is None else found | {"ter": ter}


def composed(lines: Sequence[str]) -> list[str]:
    """Return lines in the form in which text is compared."""
    return [comparable(line) for line in lines]


def check_counts(hypotheses: Sequence[str], references: Sequence[str]) -> None:
    """Raise ValueError unless there are references, and one hypothesis for each."""
    if len(hypotheses) != len(references) or not references:
        raise ValueError(
            f"{len(hypotheses)} hypotheses for {len(references)} references: expected as many, and"
            " at least one"
        )


def measured(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], metrics: Mapping[str, Metric]
) -> dict[str, tuple[float, str]]:
    """Return the corpus score and the signature of each named metric.

    `references` are one list of lines or several.
    """
    for lines in references:
        check_counts(hypotheses, lines)
    ours, theirs = composed(hypotheses), [composed(lines) for lines in references]
    found = {}
    for name, metric in metrics.items():
        result = metric.corpus_score(ours, theirs)
        found[name] = float(result.score), f"{result.name}|{metric.get_signature()}"
    return found


def score(hypotheses: Sequence[str], references: Sequence[str], tokenizer: str) -> Scores:
    """Return BLEU, by sacreBLEU's tokenizer, and chrF against one reference for each hypothesis."""
    check_counts(hypotheses, references)
    ours, theirs = composed(hypotheses), [composed(references)]
    bleu, chrf = bleu_metric(tokenizer), CHRF()
    bleu_score, chrf_score = (metric.corpus_score(ours, theirs) for metric in (bleu, chrf))
    return Scores(
        bleu_score.score,
        chrf_score.score,
        f"{bleu_score.name}|{bleu.get_signature()}",
        f"{chrf_score.name}|{chrf.get_signature()}",
        is_smoothing=not bleu_score.counts[BLEU_ORDER - 1],
    )


# -- what a reader has to know about a score ---


def short_references(references: Sequence[str], tokenizer: str) -> int:
    """Return the number of references that are too short for a sequence of four tokens."""
    split = bleu_metric(tokenizer).tokenizer
    return sum(len(split(line).split()) < BLEU_ORDER for line in composed(references))


def short_remark(references: Sequence[str], tokenizer: str) -> str:
    """Return a remark where most references are too short for BLEU; else an empty text."""
    short = short_references(references, tokenizer)
    if 2 * short <= len(references):
        return ""
    have = "has" if short == 1 else "have"
    return (
        f"{short:,} of {counted(len(references), 'reference')} {have} fewer than {BLEU_ORDER}"
        f" tokens: BLEU, which counts sequences of {BLEU_ORDER}, says little"
        f" (data.bleu_tokenizer={tokenizer}; char counts characters)"
    )


def tokenized_remark(name: str, lines: Sequence[str]) -> str:
    """Return a remark where text looks tokenized; else an empty text."""
    found = sum(line.endswith(" .") for line in lines)
    if found < TOKENIZED_LINES:
        return ""
    return (
        f"{name}: {found:,} of {len(lines):,} lines end in a separate full stop, as tokenized text"
        " does; BLEU is meant for detokenized text"
    )


# -- significance ---


@dataclass
class Comparison:
    """A system compared with the first one by paired bootstrap resampling (Koehn 2004)."""

    name: str
    score: float
    mean: float
    """Mean score of the resampled test sets."""
    interval: float
    """Half the width of the 95% confidence interval of the score."""
    p_value: float | None
    """Significance of the difference from the first system; None for the first itself."""


def paired_bootstrap(
    systems: Mapping[str, Sequence[str]],
    references: Sequence[Sequence[str]],
    metric: Metric,
    samples: int = 1000,
) -> tuple[str, list[Comparison]]:
    """Return the metric's signature and a comparison of each named system with the first one.

    All are hypotheses for the same references, one list of lines or several. `samples` test sets
    are drawn.
    """
    for hypotheses in systems.values():
        for lines in references:
            check_counts(hypotheses, lines)
    named: list[tuple[str, Sequence[str]]] = [(name, composed(t)) for name, t in systems.items()]
    signatures, results = PairedTest(
        named,
        {"": metric},
        references=[composed(lines) for lines in references],
        test_type="bs",
        n_samples=samples,
    )()
    [(metric_name, signature)] = signatures.items()
    found = [result for result in results[metric_name] if isinstance(result, Result)]
    return str(signature), [
        _comparison(name, result, found[0]) for (name, _), result in zip(named, found, strict=True)
    ]


def _comparison(name: str, result: Result, first: Result) -> Comparison:
    """Return a system's row. Equal scores have p = 1: sacreBLEU gives them its smallest p."""
    assert result.mean is not None
    assert result.ci is not None
    p = result.p_value
    if p is not None and result.score == first.score:
        p = 1.0
    return Comparison(name, float(result.score), float(result.mean), float(result.ci), p)
