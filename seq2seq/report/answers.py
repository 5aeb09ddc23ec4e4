"""The short answer: which norm won, by how much, at what cost; and what happens on longer
sentences.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from ..rnn import NormKind
from ..runs.records import Group, by_seed
from .charts import Table
from .experiments.convergence import common_loss, pairs, time_to
from .experiments.length import lost_bleu, within_and_beyond
from .experiments.verdict import Figures, difference, doublings
from .norms import NormRow, speed
from .statistics import Outcome, interval, outcome, smallest_effect

SIDE_BY_SIDE = (
    "Means over seeds with Student's 95% interval. ×: as a multiple of none's. The loss is the"
    " lowest validation loss that both runs of a seed reach, where the slower one's curve is flat;"
    ' for earlier ones see the chart "Updates and seconds to reach a validation loss".'
)
LONG = (
    "Means over seeds with Student's 95% interval. These are trainings of their own, on short"
    " sentences and at one learning rate. The better model has more BLEU to lose, so that the part"
    " of it is compared. What shows 4 times in 5: the difference that so many seeds tell from 0 in"
    " four of five repetitions."
)
"""Below the tables of the short answer."""


@dataclass
class Answer:
    """What a group of runs says to someone in a hurry."""

    sentences: list[str]
    table: Table | None = None
    """A row for each norm."""


def overview(found: Sequence[Group], of_norms: Sequence[list[NormRow]]) -> list[Answer]:
    """Which norm won, whether that is more than chance, what it cost; what happens on longer
    sentences.

    A list of rows for each group.
    """
    answers: list[Answer] = []
    for group, rows in zip(found, of_norms, strict=True):
        for none, norms in group.comparisons.items() if group.compares_norms else ():
            if len(norms) > 1:
                answers.append(
                    _side_by_side(group, none, [row for row in rows if row.norm in norms])
                )
        if group.experiment == "length":
            answers += _long_sentences(group)
    return answers


def _side_by_side(group: Group, usual: str, rows: Sequence[NormRow]) -> Answer:
    """The order of the norms, and each one's figures beside no norm's, where there are such
    runs.
    """
    scores = {row.norm: by_seed(row.runs, group.bleu) for row in rows}
    none = next((row for row in rows if row.norm == usual), None)
    rates = (
        f", each at the best of {len(group.values('optimizer.lr'))} learning rates"
        if group.searches_rates
        else ""
    )
    answer = Answer([f"{group.where}: {_ranking(rows[0].split, scores, rates)}"])
    if none:
        answer.table = Table(
            f"{group.where}: the norms beside {none.norm}",
            [
                {
                    f"beside {none.norm}": row.norm,
                    **_in_bleu(
                        f"{none.split} BLEU", difference(scores[row.norm], scores[none.norm])
                    ),
                    **_cost(row, none),
                }
                for row in rows
                if row is not none
            ],
            SIDE_BY_SIDE,
        )
    return answer


def _ranking(split: str, scores: Mapping[str, Figures], remark: str) -> str:
    """The norms from the highest BLEU to the lowest, and which of them can't be told from the
    first.
    """
    shared = set.intersection(*(set(figures) for figures in scores.values()))
    means = {
        norm: fmean(figures[seed] for seed in shared or figures) for norm, figures in scores.items()
    }
    first, *others = sorted(means, key=lambda norm: -means[norm])
    ahead_of = {norm: difference(scores[first], scores[norm]) for norm in others}
    tied = [norm for norm in others if outcome(ahead_of[norm] or [0.0]) is not Outcome.supported]
    if not tied:
        who = f"{first} won"
    elif tied == others:
        who = "the order is open"
    else:
        who = (
            f"{listed([first, *tied])} are ahead"
            if tied == others[: len(tied)]
            else f"{first} is ahead"
        )
    order = ", ".join(f"{norm} {means[norm]:.1f}" for norm in (first, *others))
    said = f"{who}: {split} BLEU {order} ({_of_seeds(shared, scores)}{remark})."
    return " ".join([said, *_open({norm: ahead_of[norm] for norm in tied}, first)])


def _open(undecided: Mapping[str, Sequence[float]], usual: str) -> list[str]:
    """Why these differences from a norm's say nothing: there is none, it is of one seed, or the
    seeds are too few.
    """
    by_count: dict[int, list[str]] = {}
    for norm, differences in undecided.items():
        by_count.setdefault(min(len(differences), 2), []).append(norm)
    why = ("No seed in common tells", "One seed can't tell", "The seeds are too few to tell")
    return [
        f"{why[count]} {listed(norms)} from {usual}." for count, norms in sorted(by_count.items())
    ]


def _of_seeds(shared: set[int], scores: Mapping[str, Figures]) -> str:
    """What the means are over."""
    if not shared:
        return "means of different seeds"
    if all(len(figures) == len(shared) for figures in scores.values()):
        return "one seed each" if len(shared) == 1 else f"means of {len(shared)} seeds"
    return (
        f"means of the {len(shared)} seeds that all have"
        if len(shared) > 1
        else "of the one seed that all have"
    )


def _in_bleu(score: str, differences: Sequence[float]) -> dict[str, str]:
    """A norm's BLEU beside none's, over seeds, and whether that is more than chance."""
    return {
        f"{score} (95%)": _difference(differences),
        "more than chance?": _sure(differences, "better", "worse"),
    }


def _difference(values: Sequence[float]) -> str:
    """A mean over seeds with its interval."""
    if not values:
        return "–"
    found = interval(values)
    return f"{found.mean:+.1f}" + (
        f" ({found.low:+.1f} to {found.high:+.1f})" if len(values) > 1 else ""
    )


def _sure(differences: Sequence[float], above: str, below: str) -> str:
    """Whether a difference is more than chance, and which of the two words it deserves."""
    if len(differences) < 2:
        return (
            "one seed can't tell: train more (seed=1,2,3)" if differences else "no seed in common"
        )
    unsure = f"can't tell ({smallest_effect(differences):.1f} shows 4 times in 5)"
    return {
        Outcome.supported: f"yes, {above}",
        Outcome.refuted: f"yes, {below}",
        Outcome.undecided: unsure,
    }[outcome(differences)]


def _cost(row: NormRow, none: NormRow) -> dict[str, str]:
    """A norm's beside none's, to the lowest loss that both runs of a seed reach, as in the
    verdict.
    """
    speeds = doublings(by_seed(row.runs, speed), by_seed(none.runs, speed))
    losses = [common_loss(pair) for pair in pairs(row.runs, none.runs).values()]
    updates, seconds = (
        doublings(*time_to(row.runs, none.runs, by)) for by in ("update", "seconds")
    )
    return {
        "target tokens/s": _as_part(speeds),
        "loss both reach": f"{fmean(losses):.2f}" if losses else "–",
        "updates to it": _as_part(updates),
        "time to it": _as_part(seconds),
    }


def _as_part(doubled: Sequence[float]) -> str:
    """A mean ratio with its interval, from the logarithms of a ratio a seed."""
    if not doubled:
        return "–"
    found = interval(doubled)
    between = f" ({2**found.low:.2f} to {2**found.high:.2f})" if len(doubled) > 1 else ""
    return f"× {2**found.mean:.2f}{between}"


def _long_sentences(group: Group) -> list[Answer]:
    """Which part of the BLEU each norm loses, and which of them clearly lose more or less than
    none.
    """
    every = {norm: group.paired(lost_bleu, norm=norm) for norm in group.norms}
    every = {norm: figures for norm, figures in every.items() if figures}
    if not every:
        return []
    shared = set.intersection(*(set(figures) for figures in every.values()))
    lost = {
        norm: {seed: figures[seed] for seed in shared or figures} for norm, figures in every.items()
    }
    none = next((norm for norm in group.variants("none") if norm in lost and len(lost) > 1), "")
    beside = (
        {norm: difference(lost[norm], lost[none]) for norm in lost if norm != none} if none else {}
    )
    parts = listed(
        [f"{fmean(figures.values()):.0f} % with {norm}" for norm, figures in lost.items()]
    )
    told = {group.kind(norm) for norm in lost}
    untested = [kind.value for kind in NormKind if kind.value not in told]
    return [
        Answer(
            [
                f"{group.where}: {_trained_on(group)}: {parts} ({_of_seeds(shared, every)}).",
                *_who_loses(beside, none),
                *([f"Not tested: {listed(untested)}."] if untested else []),
            ],
            Table(
                f"{group.where}: longer sentences",
                [_loss_row(group, norm, lost[norm], beside.get(norm), none) for norm in lost],
                LONG,
            ),
        )
    ]


def _trained_on(group: Group) -> str:
    """How long the sentences are, in words that go on with what is lost."""
    found = [p for run in group.runs for p in run.probed("length")]
    beyond = [p for p in found if p["over"] >= p["trained"]]
    longer = f"{min(p['over'] for p in beyond) + 1} to {max(p['pieces'] for p in beyond)}"
    return (
        f"models trained on sentences of at most {max(p['trained'] for p in found)} pieces lose a"
        f" part of their BLEU on longer ones ({longer} pieces)"
    )


def _loss_row(
    group: Group, norm: str, lost: Figures, beside: Sequence[float] | None, none: str
) -> dict[str, str]:
    """A norm's BLEU on both sides of the longest length trained on, and what it loses beside
    none.
    """
    sides = [
        found
        for run in group.of(norm=norm)
        if run.config.seed in lost and (found := within_and_beyond(run, "bleu"))
    ]
    within, beyond = (f"{fmean(side):.1f}" for side in zip(*sides, strict=True))
    row = {
        "norm": norm,
        "BLEU at the longest lengths trained on": within,
        "on longer ones": beyond,
        "part lost (95%)": f"{_percent(list(lost.values()))} %",
    }
    sure = "–" if beside is None else _sure(beside, "more", "less")
    return row | (
        {
            "lost more than none (percentage points)": _difference(beside or []),
            "more than chance?": sure,
        }
        if none
        else {}
    )


def _who_loses(beside: Mapping[str, Sequence[float]], none: str) -> list[str]:
    """Clearly less than none, clearly more, or neither."""
    told = {norm: outcome(differences or [0.0]) for norm, differences in beside.items()}
    clearly = [
        f"clearly {word} with {listed(norms)}"
        for word, wanted in (("less", Outcome.refuted), ("more", Outcome.supported))
        if (norms := [norm for norm, found in told.items() if found is wanted])
    ]
    undecided = {norm: beside[norm] for norm, found in told.items() if found is Outcome.undecided}
    return [
        *([f"Beside {none} that is {' and '.join(clearly)}."] if clearly else []),
        *_open(undecided, none),
    ]


def listed(parts: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _percent(values: Sequence[float]) -> str:
    """A mean over seeds with its interval, in whole numbers."""
    found = interval(values)
    return f"{found.mean:.0f}" + (f" ± {found.half:.0f}" if len(values) > 1 else "")
