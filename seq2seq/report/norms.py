"""The norms side by side: a row a norm, at its best rate, with p of the paired bootstrap against no
norm.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from ..data.corpora import is_here, read_split, scored_text
from ..errors import DataError
from ..runs.records import Group, RunRecord
from ..translation.scores import paired_bootstrap
from .charts import Table
from .columns import number
from .experiments.convergence import at_best_rate, time_to
from .statistics import Interval, interval

BOOTSTRAP_SEEDS = 3
"""So many take seconds; over more seeds Student's interval says more."""
NORMS_CAPTION = (
    "±: half of Student's 95% interval over seeds. p: paired bootstrap of the two systems' BLEU, by"
    " sacreBLEU, of each of the first three seeds; it speaks of these two models on other"
    " sentences, the interval of other seeds, so that they need not agree. The loss both reach: the"
    " lowest validation loss of both runs of a seed. Scores and valid loss are those of the"
    " checkpoint with the best validation BLEU, with batch norm's statistics measured anew: the"
    " loss need not be the curve's last one."
)


@dataclass
class NormRow:
    """A norm's runs at its best rate."""

    norm: str
    split: str
    """Whose BLEU and chrF these are."""
    runs: list[RunRecord]
    bleu: Interval
    chrf: float
    loss: float
    updates: tuple[float, float] | None
    """Its own and none's to the lowest validation loss that both runs of a seed reach, means over
    seeds.
    """
    seconds: tuple[float, float] | None
    """The same in seconds of training."""
    tokens_per_second: float
    parameters: int
    p_values: list[float] = field(default_factory=list)
    """Of the paired bootstrap of BLEU against no norm, of each of the first seeds."""

    @property
    def rate(self) -> float:
        """The norm's best."""
        return self.runs[0].config.optimizer.lr

    @property
    def seeds(self) -> list[int]:
        """Of the runs."""
        return [run.config.seed for run in self.runs]


def norms_table(group: Group, rows: Sequence[NormRow]) -> Table:
    """They as a table for people."""
    rates = ", each at the rate with its lowest validation loss" if group.searches_rates else ""
    return Table(
        f"{group.where}: the norms side by side",
        [norm_cells(row) for row in rows],
        f"Means over seeds{rates}. {NORMS_CAPTION}",
    )


def norm_cells(row: NormRow) -> dict[str, str]:
    """Column -> text of a norm's row."""
    several, p_values = len(row.seeds) > 1, [number(p, 3) for p in row.p_values]
    if len(p_values) > 1 and len(set(p_values)) == 1:
        p_values = [f"{p_values[0]} each"]
    return {
        "norm": row.norm,
        "seeds": str(len(row.seeds)),
        "learning rate": str(row.rate),
        f"{row.split} BLEU (95%)": (
            number(row.bleu.mean, 1) + (f" ± {number(row.bleu.half, 1)}" if several else "")
        ),
        "p against none, by seed": ", ".join(p_values) or "–",
        f"{row.split} chrF": number(row.chrf, 1),
        "valid loss (nats/token)": number(row.loss, 3),
        "updates to the loss both reach / none's": _beside(row.updates),
        "seconds to it / none's": _beside(row.seconds, 1),
        "target tokens/s": number(row.tokens_per_second, 0),
        "parameters": number(row.parameters, 0),
    }


def _beside(times: tuple[float, float] | None, decimals: int = 0) -> str:
    """A norm's and none's, below 100 with so many decimals."""
    return (
        "–"
        if times is None
        else " / ".join(number(time, decimals if time < 100 else 0) for time in times)
    )


def norm_rows(group: Group) -> list[NormRow]:
    """A row a norm, none first; nothing for an experiment that isn't about the norms as a whole."""
    if not group.compares_norms or not group.runs:
        return []
    runs = {norm: at_best_rate(group, norm) for norm in group.norms}
    usual = {
        norm: none for none, norms in group.comparisons.items() for norm in norms if norm != none
    }
    p_values: dict[str, list[float]] = {}
    for none, norms in group.comparisons.items() if group.split == "test" else ():
        p_values |= bootstrap_p_values({norm: runs[norm] for norm in norms}, none)
    return [
        _row(group, norm, found, p_values.get(norm, []), runs.get(usual.get(norm, ""), []))
        for norm, found in runs.items()
    ]


def _row(
    group: Group, norm: str, runs: list[RunRecord], p_values: list[float], none: list[RunRecord]
) -> NormRow:
    results = [run.results for run in runs if run.results]
    return NormRow(
        norm,
        group.split,
        runs,
        interval([group.bleu(run) for run in runs]),
        fmean(group.scores(run)["chrf"] for run in runs),
        fmean(r["valid_loss"] for r in results),
        _mean_times(runs, none, "update"),
        _mean_times(runs, none, "seconds"),
        fmean(map(speed, runs)),
        results[0]["parameters"],
        p_values,
    )


def speed(run: RunRecord) -> float:
    """Of a finished run's training, in target tokens a second."""
    return float((run.results or {})["tokens_per_second"])


def _mean_times(
    runs: Sequence[RunRecord], none: Sequence[RunRecord], by: str
) -> tuple[float, float] | None:
    own, others = time_to(runs, none, by)
    return (fmean(own.values()), fmean(others.values())) if own else None


def bootstrap_p_values(runs: dict[str, list[RunRecord]], none: str) -> dict[str, list[float]]:
    """norm -> of each of the first seeds, p for a difference in test BLEU from `none`, where that
    is one of these.

    By paired bootstrap (Koehn 2004). The norms of a seed are tested together, which takes the time
    of one.
    """
    found: dict[str, list[float]] = {norm: [] for norm in runs}
    for first in runs.get(none, [])[:BOOTSTRAP_SEEDS]:
        references = test_pairs(first)[1]
        systems = {
            norm: hypotheses(run)
            for norm, members in sorted(runs.items(), key=lambda item: item[0] != none)
            for run in members
            if run.config.seed == first.config.seed
        }
        systems = {norm: texts for norm, texts in systems.items() if len(texts) == len(references)}
        if references and len(systems) > 1 and none in systems:
            _, rows = paired_bootstrap(systems, references, first.config.data.target_language)
            for row in rows:
                found[row.name] += [row.p_value] if row.p_value is not None else []
    return found


def hypotheses(run: RunRecord) -> list[str]:
    """The translations of the test set, as the run has left them; none where it has not."""
    file = run.run.translations / "test.txt"
    return file.read_text(encoding="utf-8").split("\n")[:-1] if file.is_file() else []


def test_pairs(run: RunRecord) -> tuple[list[str], list[str]]:
    """Source and reference lines that the run was scored on; none where they aren't here any more.

    Nothing is fetched or drawn for it, and other text under the same name doesn't count (an old run
    doesn't tell).
    """
    data, known = run.config.data, (run.results or {}).get("test", {})
    try:
        pairs = read_split(data, "test") if is_here(data, "test") else ([], [])
    except (DataError, OSError, KeyError):
        return [], []
    same = all(known.get(key) in (None, checksum) for key, checksum in scored_text(*pairs).items())
    return pairs if same else ([], [])
