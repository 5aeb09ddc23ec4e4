"""The norms side by side: a row a norm at its best learning rate, and its test against no norm."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from ..runs.examples import read_lines
from ..runs.records import RunRecord
from ..runs.results import Score
from .charts import Table
from .columns import number
from .experiments.convergence import time_to
from .groups import Group, Values
from .statistics import Interval, interval
from .texts import caption

BOOTSTRAP_SEEDS = 3
"""Seeds that are tested, which takes seconds; with more seeds Student's interval says more."""


@dataclass
class NormRow:
    """A norm's runs at its best learning rate."""

    norm: str
    split: str
    """The split of the scores."""
    runs: list[RunRecord]
    scores: list[Score]
    """One a run."""
    none: list[RunRecord]
    """The runs without a norm that they are compared with."""
    p_values: Values
    """Of the paired bootstrap of BLEU against no norm, for the first seeds that both have."""

    @property
    def bleu(self) -> Interval:
        """The mean BLEU over seeds."""
        return interval([score.bleu for score in self.scores])

    def times(self, by: str, decimals: int = 0) -> str:
        """Return how long the norm and no norm take to the common loss, as means over seeds."""
        means = [fmean(side.values()) for side in time_to(self.runs, self.none, by) if side]
        cells = [number(mean, decimals if mean < 100 else 0) for mean in means]
        return " / ".join(cells) or "–"


def norms_table(group: Group, rows: Sequence[NormRow]) -> Table:
    """Return the rows as a table for people."""
    rates = ", each at the rate with its lowest validation loss" if group.searches_rates else ""
    seeds, spread = "One seed of each norm", "one_seed"
    if group.has_several_seeds:
        seeds, spread = "Means over seeds", "spread"
    return Table(
        f"{group.label}: the norms side by side",
        [norm_cells(row) for row in rows],
        f"{seeds}{rates}. {caption(spread, 'norms')}",
    )


def norm_cells(row: NormRow) -> dict[str, str]:
    """Return a norm's row: column -> text."""
    results = [run.results for run in row.runs if run.results]
    spread = f" ± {number(row.bleu.half, 1)}" if len(row.runs) > 1 else ""
    return {
        "norm": row.norm,
        "seeds": str(len(row.runs)),
        "learning rate": str(row.runs[0].config.optimizer.lr),
        f"{row.split} BLEU (95%)": number(row.bleu.mean, 1) + spread,
        "p against none, by seed": p_values_in_words(row),
        f"{row.split} chrF": number(fmean(score.chrf for score in row.scores), 1),
        "valid loss (nats/token)": number(fmean(r.valid_loss for r in results), 3),
        "updates to the common loss / none's": row.times("update"),
        "seconds to it / none's": row.times("seconds", 1),
        "target tokens/s": number(fmean(r.tokens_per_second for r in results), 0),
        "parameters": number(results[0].parameters, 0),
    }


def p_values_in_words(row: NormRow) -> str:
    """Return a row's p-values with their seeds, as text; equal ones once."""
    texts = {seed: number(p, 3) for seed, p in row.p_values.items()}
    values = list(texts.values())
    if len(row.runs) == 1 or not values:
        return "".join(values) or "–"
    if len(values) > 1 and len(set(values)) == 1:
        return f"{values[0]} each"
    return ", ".join(f"seed {seed}: {p}" for seed, p in texts.items())


def norm_rows(group: Group) -> list[NormRow]:
    """Return a row for each norm, where the experiment compares norms as a whole."""
    if not group.design.compares_norms or not group.runs:
        return []
    runs = {norm: group.at_best_rate({"norm": norm}) for norm in group.norms}
    rows = []
    for none, norms in group.comparisons.items():
        tested = {norm: runs[norm] for norm in norms} if group.split == "test" else {}
        p_values = bootstrap_p_values(tested, none)
        for norm in norms:
            scores = [group.scores(run) for run in runs[norm]]
            others = runs.get(none, []) if norm != none else []
            found = p_values.get(norm, {})
            rows.append(NormRow(norm, group.split, runs[norm], scores, others, found))
    return sorted(rows, key=lambda row: group.norms.index(row.norm))


def bootstrap_p_values(runs: dict[str, list[RunRecord]], none: str) -> dict[str, Values]:
    """Return by norm and seed the p of the difference from `none` in test BLEU.

    By paired bootstrap (Koehn 2004), for the first seeds that both have. The norms of a seed are
    tested together, which takes the time of one test. Runs without stored text, as older versions
    left them, have no p.
    """
    from ..translation.scores import bleu_metric, paired_bootstrap  # sacreBLEU, needed here alone

    found: dict[str, Values] = {norm: {} for norm in runs}
    for first in runs.get(none, []):
        references = read_lines(first.run.translations / "test.reference.txt")
        systems = {
            norm: read_lines(run.run.translations / "test.txt")
            for norm, members in sorted(runs.items(), key=lambda item: item[0] != none)
            for run in members
            if run.seed == first.seed and len(found[norm]) < BOOTSTRAP_SEEDS
        }
        systems = {norm: texts for norm, texts in systems.items() if len(texts) == len(references)}
        if references and len(systems) > 1 and none in systems:
            metric = bleu_metric(first.config.data.splits_for_bleu)
            _, rows = paired_bootstrap(systems, [references], metric)
            for row in rows:
                if row.p_value is not None:
                    found[row.name][first.seed] = row.p_value
    return found
