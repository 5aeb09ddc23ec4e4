"""The norms side by side: a row a norm at its best learning rate, and its test against no norm."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from ..runs.examples import read_lines
from ..runs.records import RunRecord
from .charts import Table
from .columns import number
from .experiments.convergence import time_to
from .groups import Group
from .statistics import Interval, interval

BOOTSTRAP_SEEDS = 3
"""Seeds that are tested, which takes seconds; with more seeds Student's interval says more."""
NORMS_CAPTION = (
    "±: half of the 95% interval over seeds (Student's t). p: paired bootstrap of the two systems'"
    " BLEU (sacreBLEU), for each of the first three seeds. It is about these two models on other"
    " sentences; the interval is about other seeds: the two need not agree. The common loss: the"
    " lowest validation loss that both runs of a seed reach. Scores and validation loss are those"
    " of the checkpoint with the best validation BLEU, for batch norm with statistics measured"
    " again: the loss may differ from the last one of the curve."
)


@dataclass
class NormRow:
    """A norm's runs at its best learning rate."""

    norm: str
    split: str
    """The split of BLEU and chrF."""
    runs: list[RunRecord]
    bleu: Interval
    chrf: float
    loss: float
    updates: tuple[float, float] | None
    """Updates to the common loss: its own and no norm's, means over seeds."""
    seconds: tuple[float, float] | None
    """Seconds of training to the common loss."""
    tokens_per_second: float
    parameters: int
    p_values: list[float] = field(default_factory=list)
    """Of the paired bootstrap of BLEU against no norm, one for each of the first seeds."""

    @property
    def rate(self) -> float:
        """The best learning rate."""
        return self.runs[0].config.optimizer.lr

    @property
    def seeds(self) -> list[int]:
        """The seeds of the runs."""
        return [run.seed for run in self.runs]


def norms_table(group: Group, rows: Sequence[NormRow]) -> Table:
    """Return the rows as a table for people."""
    rates = ", each at the rate with its lowest validation loss" if group.searches_rates else ""
    return Table(
        f"{group.label}: the norms side by side",
        [norm_cells(row) for row in rows],
        f"Means over seeds{rates}. {NORMS_CAPTION}",
    )


def norm_cells(row: NormRow) -> dict[str, str]:
    """Return a norm's row: column -> text."""
    several, p_values = len(row.seeds) > 1, [number(p, 3) for p in row.p_values]
    if len(p_values) > 1 and len(set(p_values)) == 1:
        p_values = [f"{p_values[0]} each"]
    bleu = number(row.bleu.mean, 1) + (f" ± {number(row.bleu.half, 1)}" if several else "")
    return {
        "norm": row.norm,
        "seeds": str(len(row.seeds)),
        "learning rate": str(row.rate),
        f"{row.split} BLEU (95%)": bleu,
        "p against none, by seed": ", ".join(p_values) or "–",
        f"{row.split} chrF": number(row.chrf, 1),
        "valid loss (nats/token)": number(row.loss, 3),
        "updates to the common loss / none's": _both(row.updates),
        "seconds to it / none's": _both(row.seconds, 1),
        "target tokens/s": number(row.tokens_per_second, 0),
        "parameters": number(row.parameters, 0),
    }


def _both(times: tuple[float, float] | None, decimals: int = 0) -> str:
    """Return a norm's time and no norm's, with decimals below 100."""
    cells = [number(time, decimals if time < 100 else 0) for time in times or ()]
    return " / ".join(cells) or "–"


def norm_rows(group: Group) -> list[NormRow]:
    """Return a row for each norm, where the experiment compares norms as a whole."""
    if not group.compares_norms or not group.runs:
        return []
    runs = {norm: group.at_best_rate({"norm": norm}) for norm in group.norms}
    partner = {norm: none for none, norms in group.comparisons.items() for norm in norms}
    p_values: dict[str, list[float]] = {}
    for none, norms in group.comparisons.items() if group.split == "test" else ():
        p_values |= bootstrap_p_values({norm: runs[norm] for norm in norms}, none)
    rows = []
    for norm, found in runs.items():
        others = [] if partner[norm] == norm else runs.get(partner[norm], [])
        rows.append(_row(group, norm, found, others, p_values.get(norm, [])))
    return rows


def _row(
    group: Group, norm: str, runs: list[RunRecord], none: list[RunRecord], p_values: list[float]
) -> NormRow:
    results = [run.results for run in runs if run.results]
    return NormRow(
        norm,
        group.split,
        runs,
        interval([group.bleu(run) for run in runs]),
        fmean(group.scores(run).chrf for run in runs),
        fmean(r.valid_loss for r in results),
        _mean_times(runs, none, "update"),
        _mean_times(runs, none, "seconds"),
        fmean(r.tokens_per_second for r in results),
        results[0].parameters,
        p_values,
    )


def _mean_times(
    runs: Sequence[RunRecord], none: Sequence[RunRecord], by: str
) -> tuple[float, float] | None:
    own, others = time_to(runs, none, by)
    return (fmean(own.values()), fmean(others.values())) if own else None


def bootstrap_p_values(runs: dict[str, list[RunRecord]], none: str) -> dict[str, list[float]]:
    """Return by norm the p of the difference from `none` in test BLEU, for each of the first seeds.

    By paired bootstrap (Koehn 2004). The norms of a seed are tested together, which takes the time
    of one test. Runs without stored text, as older versions left them, have no p.
    """
    from ..translation.scores import paired_bootstrap  # sacreBLEU, needed for this alone

    found: dict[str, list[float]] = {norm: [] for norm in runs}
    for first in runs.get(none, [])[:BOOTSTRAP_SEEDS]:
        references = read_lines(first.run.translations / "test.reference.txt")
        systems = {
            norm: read_lines(run.run.translations / "test.txt")
            for norm, members in sorted(runs.items(), key=lambda item: item[0] != none)
            for run in members
            if run.seed == first.seed
        }
        systems = {norm: texts for norm, texts in systems.items() if len(texts) == len(references)}
        if references and len(systems) > 1 and none in systems:
            _, rows = paired_bootstrap(systems, references, first.config.data.target_language)
            for row in rows:
                found[row.name] += [row.p_value] if row.p_value is not None else []
    return found
