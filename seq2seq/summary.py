"""The short answer: a row a norm, and in a few sentences which norm won, by how much, at what cost."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from .corpora import is_here, read_split, scored_text
from .errors import DataError
from .experiments.convergence import at_best_rate, common_loss, reached, time_to, with_curves
from .experiments.length import gained_loss, lost_bleu
from .experiments.verdict import difference, doublings
from .metrics import paired_bootstrap
from .records import Group, RunRecord, by_seed
from .statistics import Interval, Outcome, interval, outcome, smallest_effect

BOOTSTRAP_SEEDS = 3
"""So many take seconds; over more seeds Student's interval says more."""
COMPARED = (None, "convergence")
"""The groups of runs whose norms are set side by side as a whole."""


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
    if group.experiment not in COMPARED or not group.runs:
        return []
    runs = {norm: at_best_rate(group, norm) for norm in group.norms}
    known = with_curves([run for found in runs.values() for run in found])
    loss = common_loss(known) if known else None
    p_values = bootstrap_p_values(runs, next(iter(group.variants("none")), None))
    return [_row(group, norm, found, p_values[norm], loss) for norm, found in runs.items()]


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


def bootstrap_p_values(runs: dict[str, list[RunRecord]], none: str | None) -> dict[str, list[float]]:
    """norm -> of each of the first seeds, p for a difference in test BLEU from `none`.

    By paired bootstrap (Koehn 2004). The norms of a seed are tested together, which takes the time of one.
    """
    found: dict[str, list[float]] = {norm: [] for norm in runs}
    for first in runs[none][:BOOTSTRAP_SEEDS] if none is not None else []:
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


def overview(found: Sequence[Group], of_norms: Sequence[list[NormRow]]) -> list[str]:
    """Sentences for someone in a hurry: which norm won, by how much, whether that is significant, what it cost.

    A list of rows for each group.
    """
    sentences: list[str] = []
    for group, rows in zip(found, of_norms, strict=True):
        if group.experiment in COMPARED and group.variants("none") and len(group.norms) > 1:
            sentences += _winner(group, rows)
        if group.experiment == "length":
            sentences += _long_sentences(group)
    return sentences


def _winner(group: Group, rows: Sequence[NormRow]) -> list[str]:
    scores = {row.norm: by_seed(row.runs, group.bleu) for row in rows}
    best = max(rows, key=lambda row: row.bleu.mean)
    none = next(row for row in rows if row.norm == group.variants("none")[0])
    beside = [_beside(norm, difference(scores[norm], scores[none.norm])) for norm in scores if norm != none.norm]
    equals = [norm for norm in scores if norm != best.norm and len(best.seeds) > 1
              and outcome(difference(scores[best.norm], scores[norm]) or [0.0]) is Outcome.undecided]
    score = f"{best.split} BLEU, {best.bleu.mean:.1f}"
    won = (f"has the highest {score}, but {len(best.seeds)} seeds can't tell {' and '.join(equals)} from it" if equals
           else f"won: it has the highest {score}")
    said = f"{group.where}: {best.norm} {won}. Beside {none.norm}: {'; '.join(beside)}."
    if len(none.seeds) < 2:
        said += " From one seed that can't be told from chance; train more (seed=1,2,3)."
    return [said] if best is none else [said, _cost(best, none)]


def _beside(norm: str, differences: Sequence[float]) -> str:
    """One norm's BLEU beside none's, over seeds."""
    if not differences:
        return f"{norm} has no seed in common with it"
    if len(differences) < 2:
        return f"{norm} {differences[0]:+.1f}"
    found = interval(differences)
    word = "significant" if outcome(differences) is not Outcome.undecided else "not significant"
    return (f"{norm} {found.mean:+.1f}, {word} (95% from {found.low:+.1f} to {found.high:+.1f}; so many seeds would "
            f"show {smallest_effect(differences):.1f} four times in five)")


def _cost(best: NormRow, none: NormRow) -> str:
    """Of a norm beside none, to the lowest loss that both runs of a seed reach, as in the verdict."""
    speed = best.tokens_per_second / none.tokens_per_second
    said = [f"{best.norm} trained at {speed:.2f} of {none.norm}'s target tokens a second"]
    updates, seconds = (doublings(*time_to(best.runs, none.runs, by)) for by in ("update", "seconds"))
    if updates and seconds:
        said.append(f"and took {2 ** fmean(updates):.2f} of its updates and {2 ** fmean(seconds):.2f} of its time to "
                    "the same validation loss")
    return ", ".join(said) + "."


def _long_sentences(group: Group) -> list[str]:
    lost = {norm: [list(group.paired(figure, norm=norm).values()) for figure in (lost_bleu, gained_loss)]
            for norm in group.norms}
    said = [f"{_mean(scores, 0)} % of the BLEU and {_mean(losses, 2)} nats a token with {norm}"
            for norm, (scores, losses) in lost.items() if scores and losses]
    return [f"{group.where}: sentences longer than any trained on cost {'; '.join(said)}."] if said else []


def _mean(values: Sequence[float], decimals: int) -> str:
    """Over seeds, with its interval."""
    found = interval(values)
    return f"{found.mean:.{decimals}f}" + (f" ± {found.half:.{decimals}f}" if len(values) > 1 else "")
