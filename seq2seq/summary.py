"""The short answer: a row a norm, and in a few sentences which norm won, by how much, at what cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from .corpora import is_here, read_split, scored_text
from .errors import DataError
from .experiments.convergence import at_best_rate, common_loss, reached, time_to, with_curves
from .experiments.length import lost_bleu
from .experiments.verdict import Figures, difference, doublings
from .metrics import paired_bootstrap
from .records import Group, RunRecord, by_seed
from .statistics import Interval, Outcome, interval, outcome, smallest_effect

BOOTSTRAP_SEEDS = 3
"""So many take seconds; over more seeds Student's interval says more."""
SHORT = ("Means over seeds with Student's 95% interval. ×: as a multiple of none's; the loss is the lowest "
         "validation loss that both runs of a seed reach.")
"""Below the table of the short answer."""


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
    updates: float | None
    """To the lowest validation loss that every run of the table has reached; mean over seeds."""
    seconds: float | None
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


def norm_rows(group: Group) -> list[NormRow]:
    """A row a norm, none first; nothing for an experiment that isn't about the norms as a whole."""
    if not group.compares_norms or not group.runs:
        return []
    runs = {norm: at_best_rate(group, norm) for norm in group.norms}
    known = with_curves([run for found in runs.values() for run in found])
    loss = common_loss(known) if known else None
    p_values: dict[str, list[float]] = {}
    for none, norms in group.comparisons.items() if group.split == "test" else ():
        p_values |= bootstrap_p_values({norm: runs[norm] for norm in norms}, none)
    return [_row(group, norm, found, p_values.get(norm, []), loss) for norm, found in runs.items()]


def _row(group: Group, norm: str, runs: list[RunRecord], p_values: list[float], loss: float | None) -> NormRow:
    results = [run.results for run in runs if run.results]
    return NormRow(
        norm, group.split, runs, interval([group.bleu(run) for run in runs]),
        fmean(group.scores(run)["chrf"] for run in runs),
        fmean(r["valid_loss"] for r in results), _mean_time(runs, loss, "update"), _mean_time(runs, loss, "seconds"),
        fmean(r["tokens_per_second"] for r in results), results[0]["parameters"],
        p_values)


def _mean_time(runs: Sequence[RunRecord], loss: float | None, by: str) -> float | None:
    times = [reached(run, loss, by) for run in with_curves(runs)] if loss is not None else []
    known = [time for time in times if time is not None]
    return fmean(known) if known and len(known) == len(times) else None


def bootstrap_p_values(runs: dict[str, list[RunRecord]], none: str) -> dict[str, list[float]]:
    """norm -> of each of the first seeds, p for a difference in test BLEU from `none`, where that is one of these.

    By paired bootstrap (Koehn 2004). The norms of a seed are tested together, which takes the time of one.
    """
    found: dict[str, list[float]] = {norm: [] for norm in runs}
    for first in runs.get(none, [])[:BOOTSTRAP_SEEDS]:
        references = test_pairs(first)[1]
        systems = {norm: hypotheses(run) for norm, members in sorted(runs.items(), key=lambda item: item[0] != none)
                   for run in members if run.config.seed == first.config.seed}
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

    Nothing is fetched or drawn for it, and other text under the same name doesn't count (an old run doesn't tell).
    """
    data, known = run.config.data, (run.results or {}).get("test", {})
    try:
        pairs = read_split(data, "test") if is_here(data, "test") else ([], [])
    except (DataError, OSError, KeyError):
        return [], []
    same = all(known.get(key) in (None, checksum) for key, checksum in scored_text(*pairs).items())
    return pairs if same else ([], [])


# -- in words --------------------------------------------------------------------------------------------------------


@dataclass
class Answer:
    """What a group of runs says to someone in a hurry."""

    sentences: list[str]
    table: list[dict[str, str]] = field(default_factory=list)
    """A row for each norm beside none: column -> text."""


def overview(found: Sequence[Group], of_norms: Sequence[list[NormRow]]) -> list[Answer]:
    """Which norm won, whether that is more than chance, what it cost; what happens on longer sentences.

    A list of rows for each group.
    """
    answers: list[Answer] = []
    for group, rows in zip(found, of_norms, strict=True):
        for none, norms in group.comparisons.items() if group.compares_norms else ():
            if len(norms) > 1:
                answers.append(_side_by_side(group, none, [row for row in rows if row.norm in norms]))
        if group.experiment == "length":
            answers += _long_sentences(group)
    return answers


def _side_by_side(group: Group, usual: str, rows: Sequence[NormRow]) -> Answer:
    """The order of the norms, and each one's figures beside no norm's, where there are such runs."""
    scores = {row.norm: by_seed(row.runs, group.bleu) for row in rows}
    none = next((row for row in rows if row.norm == usual), None)
    table = [{f"beside {none.norm}": row.norm,
              **_in_bleu(f"{none.split} BLEU", difference(scores[row.norm], scores[none.norm])),
              **_cost(row, none)} for row in rows if row is not none] if none else []
    rates = ", each norm at its best learning rate" if group.searches_rates else ""
    return Answer([f"{group.where}: {_ranking(rows[0].split, scores, rates)}"], table)


def _ranking(split: str, scores: Mapping[str, Figures], remark: str) -> str:
    """The norms from the highest BLEU to the lowest, and which of them can't be told from the first."""
    shared = set.intersection(*(set(figures) for figures in scores.values()))
    means = {norm: fmean(figures[seed] for seed in shared or figures) for norm, figures in scores.items()}
    first, *others = sorted(means, key=lambda norm: -means[norm])
    differences = {norm: difference(scores[first], scores[norm]) for norm in others}
    level = [norm for norm in others if f"{means[norm]:.1f}" == f"{means[first]:.1f}"]
    equals = [norm for norm in others if norm not in level
              and outcome(differences[norm] or [0.0]) is not Outcome.supported]
    who = f"{' and '.join([first, *level])} are level" if level else f"{first} {'is ahead' if equals else 'won'}"
    listed = ", ".join(f"{norm} {means[norm]:.1f}" for norm in (first, *others))
    said = f"{who}: {split} BLEU {listed} ({_of_seeds(shared, scores)}{remark})."
    unsure = "The seeds are too few to" if max(map(len, differences.values())) > 1 else "One seed can't"
    return said + (f" {unsure} tell {' and '.join(equals)} from {first}." if equals else "")


def _of_seeds(shared: set[int], scores: Mapping[str, Figures]) -> str:
    """What the means are over."""
    if not shared:
        return "means of different seeds"
    if all(len(figures) == len(shared) for figures in scores.values()):
        return "one seed each" if len(shared) == 1 else f"means of {len(shared)} seeds"
    return f"means of the {len(shared)} seeds that all have" if len(shared) > 1 else "of the one seed that all have"


def _in_bleu(score: str, differences: Sequence[float]) -> dict[str, str]:
    """A norm's BLEU beside none's, over seeds, and whether that is more than chance."""
    found = interval(differences) if differences else None
    if found is None:
        told, sure = "–", "no seed in common"
    elif len(differences) < 2:
        told, sure = f"{found.mean:+.1f}", "one seed can't tell: train more (seed=1,2,3)"
    else:
        told = f"{found.mean:+.1f} ({found.low:+.1f} to {found.high:+.1f})"
        unsure = f"can't tell ({smallest_effect(differences):.1f} would have shown)"
        sure = {Outcome.supported: "yes, better", Outcome.refuted: "yes, worse", Outcome.undecided: unsure}[
            outcome(differences)]
    return {f"{score} (95%)": told, "more than chance?": sure}


def _cost(row: NormRow, none: NormRow) -> dict[str, str]:
    """A norm's beside none's, to the lowest loss that both runs of a seed reach, as in the verdict."""
    updates, seconds = (doublings(*time_to(row.runs, none.runs, by)) for by in ("update", "seconds"))
    return {"target tokens/s": f"× {row.tokens_per_second / none.tokens_per_second:.2f}",
            "updates to the same loss": _as_part(updates), "time to it": _as_part(seconds)}


def _as_part(doubled: Sequence[float]) -> str:
    """A mean ratio with its interval, from the logarithms of a ratio a seed."""
    if not doubled:
        return "–"
    found = interval(doubled)
    between = f" ({2 ** found.low:.2f} to {2 ** found.high:.2f})" if len(doubled) > 1 else ""
    return f"× {2 ** found.mean:.2f}{between}"


def _long_sentences(group: Group) -> list[Answer]:
    """Which part of the BLEU each norm loses, and which of them clearly lose more or less than none."""
    lost = {norm: group.paired(lost_bleu, norm=norm) for norm in group.norms}
    lost = {norm: figures for norm, figures in lost.items() if figures}
    if not lost:
        return []
    parts = ", ".join(f"{norm} {_mean(list(figures.values()), 0)} %" for norm, figures in lost.items())
    none = next(iter(group.variants("none")), "")
    return [Answer([f"{group.where}: on sentences longer than any trained on a part of the BLEU is lost: {parts}.",
                    *(_who_loses(lost, none) if none in lost and len(lost) > 1 else [])])]


def _who_loses(lost: Mapping[str, Figures], none: str) -> list[str]:
    """More than none, or less, as far as the seeds can tell."""
    beside = {norm: difference(figures, lost[none]) for norm, figures in lost.items() if norm != none}
    if all(len(differences) < 2 for differences in beside.values()):
        return ["One seed can't tell who loses more."]
    sure = [f"Clearly {word} than {none}: {' and '.join(these)}."
            for word, wanted in (("more", Outcome.supported), ("less", Outcome.refuted))
            if (these := [norm for norm, found in beside.items() if outcome(found or [0.0]) is wanted])]
    return sure or [f"No norm clearly loses more than {none}, or less."]


def _mean(values: Sequence[float], decimals: int) -> str:
    """Over seeds, with its interval."""
    found = interval(values)
    return f"{found.mean:.{decimals}f}" + (f" ± {found.half:.{decimals}f}" if len(values) > 1 else "")
