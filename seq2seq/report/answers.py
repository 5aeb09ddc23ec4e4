"""The short answer: which norm is better, is that significant, what does it cost?

And what happens on sentences longer than those of the training set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from ..rnn import NormKind
from ..runs.entries import LengthBucket
from .charts import Table
from .columns import number, result
from .experiments.convergence import common_loss, pairs, time_to
from .experiments.length import lost_bleu, within_and_beyond
from .experiments.verdict import difference, doublings
from .groups import RATE, Group, Values, by_seed
from .norms import NormRow
from .statistics import Outcome, detectable_effect, holm, interval, outcomes
from .texts import caption

ONE_SEED = "One seed cannot tell whether the norm is the reason: train more (seed=1,2,3)."
LEVEL = 0.05
"""A p below this is significant."""


@dataclass
class Answer:
    """What a group of runs says to a reader in a hurry."""

    sentences: list[str]
    table: Table | None = None
    """A row for each norm."""


def overview(found: Sequence[Group], of_norms: Sequence[list[NormRow]]) -> list[Answer]:
    """Return the short answers of these groups, with the rows of each group's norms."""
    answers: list[Answer] = []
    for group, rows in zip(found, of_norms, strict=True):
        for none, norms in group.comparisons.items() if group.design.compares_norms else ():
            if len(norms) > 1:
                kept = [row for row in rows if row.norm in norms]
                answers.append(_compared(group, none, kept))
        if group.experiment == "length":
            answers += _long_sentences(group)
    return answers


# -- the norms compared with none ---


def _compared(group: Group, none: str, rows: Sequence[NormRow]) -> Answer:
    """Return the order of the norms, and each compared with `none`."""
    scores = {row.norm: by_seed(row.runs, group.bleu) for row in rows}
    rates = ""
    if group.searches_rates:
        rates = f", each at the best of {len(group.values(RATE))} learning rates"
    order = ", ".join(f"{norm} {mean:.1f}" for norm, mean in _means(scores).items())
    sentences = [f"{group.label}: {group.split} BLEU {order} ({_seeds(scores)}{rates})."]
    sentences += _equal_in_bleu(group, rows, scores)
    if all(len(values) == 1 for values in scores.values()) and len(_shared(scores)) == 1:
        sentences += [*_of_two_models(rows, none), ONE_SEED]
    else:
        sentences += _significance(scores)
    if not none:
        return Answer(sentences)
    compared = [row for row in rows if row.norm != none]
    differences = {row.norm: difference(scores[row.norm], scores[none]) for row in compared}
    found = _significant(differences, "better", "worse")
    table = [
        {
            f"compared with {none}": row.norm,
            f"{row.split} BLEU difference (95%)": _difference(differences[row.norm]),
            "significant?": found[row.norm],
        }
        | _cost(row)
        for row in compared
    ]
    title = f"{group.label}: the norms compared with {none}"
    seeds = "significant" if group.has_several_seeds else "one_seed"
    return Answer(sentences, Table(title, table, caption(seeds, "compared")))


def _equal_in_bleu(
    group: Group, rows: Sequence[NormRow], scores: Mapping[str, Values]
) -> list[str]:
    """Return chrF, or else the validation loss, of norms with the same BLEU, as sentences."""
    alike: dict[tuple[tuple[int, float], ...], list[NormRow]] = {}
    for row in rows:
        alike.setdefault(tuple(sorted(scores[row.norm].items())), []).append(row)
    found = []
    for same in (rows for rows in alike.values() if len(rows) > 1):
        chrf, loss = (
            [f"{fmean(by_seed(row.runs, quantity).values()):.{places}f}" for row in same]
            for quantity, places in ((group.chrf, 1), (result("valid_loss"), 3))
        )
        other = f"chrF is {listed(chrf)}" if len(set(chrf)) > 1 else f"loss is {listed(loss)}"
        norms = listed([row.norm for row in same])
        found.append(f"BLEU does not tell {norms} apart: their {other}.")
    return found


def _shared(scores: Mapping[str, Values]) -> set[int]:
    """Return the seeds that all norms have."""
    return set.intersection(*(set(values) for values in scores.values()))


def _means(scores: Mapping[str, Values]) -> dict[str, float]:
    """Return the means over the seeds that all norms have, the highest first."""
    shared = _shared(scores)
    means = {norm: fmean(found[seed] for seed in shared or found) for norm, found in scores.items()}
    return dict(sorted(means.items(), key=lambda item: -item[1]))


def _seeds(scores: Mapping[str, Values]) -> str:
    """Return which seeds the means are over."""
    count = len(_shared(scores))
    if not count:
        return "means over different seeds"
    if all(len(values) == count for values in scores.values()):
        return "one seed each" if count == 1 else f"means over {count} seeds"
    return "the one seed that all have" if count == 1 else f"means over the {count} common seeds"


def _of_two_models(rows: Sequence[NormRow], none: str) -> list[str]:
    """Return whether single models differ from none's on this test set, by paired bootstrap."""
    bleu, models = {row.norm: row.bleu.mean for row in rows}, []
    tested = [row.norm for row in rows if row.p_values]
    p_values = holm([next(iter(row.p_values.values())) for row in rows if row.p_values])
    for norm, p in zip(tested, p_values, strict=True):
        what = "not significantly different from"
        if p < LEVEL:
            what = f"significantly {'better' if bleu[norm] > bleu[none] else 'worse'} than"
        models.append(f"{norm} is {what} {none} (p = {p:.3f})")
    if not models:
        return []
    how = "by paired bootstrap" + (", corrected for their number" if len(models) > 1 else "")
    return [f"On this test set the model with {listed(models)}, {how}."]


def _significance(scores: Mapping[str, Values]) -> list[str]:
    """Return which norms the best one is significantly better than, as sentences.

    The best one is known afterwards alone: so all pairs of norms count as tested.
    """
    best, *others = ordered = list(_means(scores))
    differences = {(a, b): difference(scores[a], scores[b]) for a, b in combinations(ordered, 2)}
    found = outcomes(differences)
    beaten = [norm for norm in others if found[best, norm] is Outcome.supported]
    ahead = {norm: differences[best, norm] for norm in others}
    better = [f"The best, {best}, is significantly better than {listed(beaten)}."] if beaten else []
    return better + _undecided({n: d for n, d in ahead.items() if n not in beaten}, best)


def _undecided(differences: Mapping[str, Sequence[float]], other: str) -> list[str]:
    """Return why these differences from a norm decide nothing, as sentences."""
    why = (
        "There is no common seed to compare {0} with {1}.",
        "One seed cannot tell {0} from {1}.",
        "The difference of {0} from {1} is not significant.",
    )
    by_count: list[list[str]] = [[], [], []]
    for norm, found in differences.items():
        by_count[min(len(found), 2)].append(norm)
    return [
        text.format(listed(norms), other)
        for text, norms in zip(why, by_count, strict=True)
        if norms
    ]


def _difference(values: Sequence[float]) -> str:
    """Return a mean over seeds with its interval."""
    return interval(values).text("{:+.1f}".format) if values else "–"


def _significant(
    differences: Mapping[str, Sequence[float]], above: str, below: str
) -> dict[str, str]:
    """Return by norm whether its difference is significant, and in which direction."""
    clear, found = {Outcome.supported: f"yes, {above}", Outcome.refuted: f"yes, {below}"}, {}
    for norm, outcome in outcomes(differences).items():
        of = differences[norm]
        if len(of) < 2:
            found[norm] = "one seed cannot tell" if of else "no common seed"
        else:
            found[norm] = clear.get(outcome, f"no (detectable: {detectable_effect(of):.1f})")
    return found


def _cost(row: NormRow) -> dict[str, str]:
    """Return the cells of a norm's speed and of its way to the common loss, as in the verdict."""
    speeds = [by_seed(side, result("tokens_per_second")) for side in (row.runs, row.none)]
    losses = [common_loss(pair) for pair in pairs(row.runs, row.none).values()]
    return {
        "target tokens/s": _factor(doublings(*speeds)),
        "common loss": number(fmean(losses) if losses else None, 2),
        "updates to it": _factor(doublings(*time_to(row.runs, row.none, "update"))),
        "time to it": _factor(doublings(*time_to(row.runs, row.none, "seconds"))),
    }


def _factor(doubled: Sequence[float]) -> str:
    """Return a mean factor with its interval, from one binary logarithm a seed."""
    return f"× {interval(doubled).text(lambda log: f'{2**log:.2f}')}" if doubled else "–"


# -- longer sentences ---


def _long_sentences(group: Group) -> list[Answer]:
    """Return the share of BLEU that each norm loses, and who loses significantly more or less."""
    every = {norm: values for norm, values in group.by_norm(lost_bleu).items() if values}
    if not every:
        return []
    shared = _shared(every)
    lost = {n: {seed: found[seed] for seed in shared or found} for n, found in every.items()}
    none = next((norm for norm in group.variants("none") if norm in lost and len(lost) > 1), "")
    more = {n: difference(lost[n], lost[none]) for n in lost if n != none} if none else {}
    significant = _significant(more, "more", "less")
    parts = listed([f"{fmean(found.values()):.0f}% with {norm}" for norm, found in lost.items()])
    sentences = [f"{group.label}: {_trained_on(group)}: {parts} ({_seeds(every)})."]
    sentences += _who_loses(more, none)
    tested = {group.kind(norm) for norm in lost}
    if untested := [kind.value for kind in NormKind if kind.value not in tested]:
        sentences.append(f"Not tested: {listed(untested)}.")
    rows = [_loss_row(group, norm, lost[norm]) for norm in lost]
    if none:
        for norm, row in zip(lost, rows, strict=True):
            row["lost more than none (percentage points)"] = _difference(more.get(norm, []))
            row["significant?"] = significant.get(norm, "–")
    title = f"{group.label}: longer sentences"
    return [Answer(sentences, Table(title, rows, caption("significant", "long")))]


def _trained_on(group: Group) -> str:
    """Return what is lost, with the lengths of the sentences."""
    found = [p for run in group.runs for p in run.probed(LengthBucket)]
    beyond = [p for p in found if p.over >= p.trained]
    longer = f"{min(p.over for p in beyond) + 1} to {max(p.pieces for p in beyond)}"
    return (
        f"models trained on sentences of at most {max(p.trained for p in found)} pieces lose part"
        f" of their BLEU on longer ones ({longer} pieces)"
    )


def _loss_row(group: Group, norm: str, lost: Values) -> dict[str, str]:
    """Return a norm's BLEU within and beyond the training lengths, and the share that is lost."""
    runs = [run for run in group.where({"norm": norm}) if run.seed in lost]
    sides = [found for run in runs if (found := within_and_beyond(run, "bleu"))]
    within, beyond = (f"{fmean(side):.1f}" for side in zip(*sides, strict=True))
    share = interval(list(lost.values()))
    return {
        "norm": norm,
        "BLEU at the longest training lengths": within,
        "on longer ones": beyond,
        "share lost (95%)": f"{share.mean:.0f}{f' ± {share.half:.0f}' * (len(lost) > 1)}%",
    }


def _who_loses(more: Mapping[str, Sequence[float]], none: str) -> list[str]:
    """Return which norms lose significantly less or more than none, as sentences."""
    norms: dict[Outcome, list[str]] = {kind: [] for kind in Outcome}
    for norm, found in outcomes(more).items():
        norms[found].append(norm)
    clear = [
        f"significantly {word} is lost with {listed(members)}"
        for word, members in (("less", norms[Outcome.refuted]), ("more", norms[Outcome.supported]))
        if members
    ]
    compared = [f"Compared with {none}, {' and '.join(clear)}."] if clear else []
    return compared + _undecided({norm: more[norm] for norm in norms[Outcome.undecided]}, none)


def listed(parts: Sequence[str]) -> str:
    """Return "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
