"""Which runs are compared with which: groups by experiment, size and corpus, and norms by name."""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, TypeVar

from ..rnn import NormKind
from ..runs.records import RunRecord
from ..runs.results import Score
from .names import NO_SETTINGS, departures, norm_name, other_settings

RATE, TEXT = "optimizer.lr", "training text"
ALL: Mapping[str, Any] = {}
"""No settings wanted: all runs."""
Quantity = Callable[[RunRecord], float | None]
Values = dict[int, float]
"""seed -> the value of a quantity in its run"""
Found = TypeVar("Found", bound=Hashable)


@dataclass(frozen=True)
class Design:
    """The settings in which the runs of an experiment may differ, by how their names begin."""

    compared: tuple[str, ...]
    derived: tuple[str, ...] = ()
    """Settings that follow from those that are compared."""
    compares_norms: bool = False
    """Whether each norm is compared as a whole: its scores, cost and translations."""
    counts_diverged: bool = False
    """Whether a run that diverged is one of its results, though it has none itself."""

    @property
    def free(self) -> tuple[str, ...]:
        """All settings that may differ."""
        return (*self.compared, *self.derived)


NO_EXPERIMENT = Design(("",), compares_norms=True)
"""Runs without a known experiment may differ in every setting."""


@dataclass
class Group:
    """The runs of one experiment, size and corpus."""

    experiment: str | None
    size: str | None
    corpus: str
    design: Design = NO_EXPERIMENT
    runs: list[RunRecord] = field(default_factory=list)
    """Finished runs that differ in nothing but the seed and what is compared.

    Diverged ones too, where the design counts them.
    """
    left_out: list[RunRecord] = field(default_factory=list)
    """All other runs."""
    notes: list[str] = field(default_factory=list)
    """Differences in machine, threads and versions; without an experiment in settings too."""

    @property
    def has_several_seeds(self) -> bool:
        """Whether there are means over seeds, with their intervals."""
        return len({run.seed for run in self.runs}) > 1

    @property
    def searches_rates(self) -> bool:
        """Whether a norm was trained at several learning rates, the best of which counts."""
        return any(len({r.settings[RATE] for r in self.where({"norm": n})}) > 1 for n in self.norms)

    @property
    def has_speeds(self) -> bool:
        """Whether the speeds of all runs were measured together, so that they can be compared."""
        found = {run.speed.measurement if run.speed else None for run in self.runs}
        return len(found) == 1 and None not in found

    @property
    def comparisons(self) -> dict[str, list[str]]:
        """The name of a run without norm -> the norms to compare it with, and itself.

        These differ from it in nothing but the norm. A norm without such a partner is compared
        with the most usual run without norm. If there is none, all norms are listed under "".
        """
        free = ("norm.",) if self.design is NO_EXPERIMENT else self.design.free
        others = {norm: other_settings(self.where({"norm": norm})[0], free) for norm in self.norms}
        nones, found = self.variants("none"), dict[str, list[str]]()
        for norm in self.norms:
            alike = [none for none in nones if others[none] == others[norm]]
            found.setdefault(next(iter(alike or nones), ""), []).append(norm)
        return found

    @property
    def label(self) -> str:
        """Corpus and size, as in "grammar_en_zh, quick"."""
        return ", ".join(part for part in (self.corpus, self.size) if part)

    def where(self, wanted: Mapping[str, Any]) -> list[RunRecord]:
        """Return the runs with these settings by seed; the key "norm" is the name of the norm."""
        found = [r for r in self.runs if all(r.value_of(k) == v for k, v in wanted.items())]
        return sorted(found, key=lambda run: run.seed)

    def best_rate(self, wanted: Mapping[str, Any]) -> float:
        """Return the learning rate with the lowest final validation loss, mean over seeds.

        Only the rates with the most seeds count: at a rate that is too high a few lucky seeds
        may remain.
        """
        losses = {
            rate: list(self.by_seed(valid_loss, {**wanted, RATE: rate}).values())
            for rate in sorted({run.settings[RATE] for run in self.where(wanted)})
        }
        most = max(map(len, losses.values()))
        with_most = [rate for rate, found in losses.items() if len(found) == most]
        return float(min(with_most, key=lambda rate: fmean(losses[rate] or [0.0])))

    def at_best_rate(self, wanted: Mapping[str, Any]) -> list[RunRecord]:
        """Return the runs with these settings at their best learning rate, by seed."""
        runs = self.where(wanted)
        if len({run.settings[RATE] for run in runs}) < 2:
            return runs
        return self.where({**wanted, RATE: self.best_rate(wanted)})

    def values(self, key: str) -> list[Any]:
        """Return the different values of a setting."""
        return list(dict.fromkeys(run.value_of(key) for run in self.runs))

    @property
    def norms(self) -> list[str]:
        """The norms' names by kind, no norm first."""
        return [norm for kind in NormKind for norm in self.variants(kind.value)]

    def variants(self, kind: str, wanted: Mapping[str, Any] | None = None) -> list[str]:
        """Return the norms of a kind with these settings, those like norm=KIND first."""
        found = {
            run.norm: run
            for run in self.runs
            if run.kind == kind and all(run.settings[k] == v for k, v in (wanted or {}).items())
        }
        return sorted(found, key=lambda norm: (departures(found[norm]), norm))

    def usual(self, *kinds: str) -> list[str]:
        """Return of each of these kinds, which the group has, the norm most like norm=KIND."""
        return [self.variants(kind)[0] for kind in kinds]

    def kind(self, norm: str) -> str:
        """Return the kind of a norm, which sets its colour."""
        return next(run.kind for run in self.runs if run.norm == norm)

    def variant(self, norm: str) -> int:
        """Return the place of a norm among those of its kind, which sets tint and line style."""
        return self.variants(self.kind(norm)).index(norm)

    @property
    def split(self) -> str:
        """The split whose scores are compared: test, or valid if a run has no test set."""
        results = [run.results for run in self.runs if run.status != "diverged"]
        return "test" if all(found and found.test for found in results) else "valid"

    def scores(self, run: RunRecord) -> Score:
        """Return the scores of a finished run on that split."""
        assert run.results is not None
        return (run.results.test if self.split == "test" else None) or run.results.valid

    def bleu(self, run: RunRecord) -> float:
        """Return the BLEU of a finished run on that split."""
        return self.scores(run).bleu

    def chrf(self, run: RunRecord) -> float:
        """Return a run's chrF on the split that the group is judged by."""
        return self.scores(run).chrf

    def by_seed(self, quantity: Quantity, wanted: Mapping[str, Any]) -> Values:
        """Return a quantity by seed, of the runs with these settings."""
        return by_seed(self.where(wanted), quantity)

    def by_norm(self, quantity: Quantity, wanted: Mapping[str, Any] = ALL) -> dict[str, Values]:
        """Return a quantity of each norm by seed, of the runs with these settings."""
        chosen = self.where(wanted)
        return {
            norm: by_seed([run for run in chosen if run.norm == norm], quantity)
            for norm in self.norms
        }


def by_seed(runs: Sequence[RunRecord], quantity: Quantity) -> Values:
    """Return a quantity by seed, where it is finite; ValueError if a seed has several runs."""
    if len({run.seed for run in runs}) < len(runs):
        raise ValueError(
            f"{', '.join(run.name for run in runs)}: differ in a setting that this experiment does"
            " not compare; expected one run of each seed"
        )
    found = {run.seed: quantity(run) for run in runs}
    return {seed: v for seed, v in found.items() if v is not None and math.isfinite(v)}


def valid_loss(run: RunRecord) -> float | None:
    """Return the validation loss of the weights that are scored, in nats a token."""
    return None if run.results is None else run.results.valid_loss


# -- which runs belong together ---


def groups(runs: Sequence[RunRecord], designs: Mapping[str, Design]) -> list[Group]:
    """Return the runs by experiment, size and corpus, in the order of the experiments' designs.

    Runs that cannot be compared with the others of their group are set apart, with the reason.
    """
    found: dict[tuple[str | None, str | None, str], list[RunRecord]] = {}
    for run in runs:
        key = (run.config.experiment, run.config.size, run.config.data.name)
        found.setdefault(key, []).append(run)
    order = list(designs)
    keys = sorted(found, key=lambda key: order.index(key[0]) if key[0] in order else len(order))
    return [
        _group(Group(*key, designs.get(key[0] or "", NO_EXPERIMENT)), found[key]) for key in keys
    ]


def _group(group: Group, members: list[RunRecord]) -> Group:
    """Fill a group with the runs that can be compared, and with the others and their reasons."""
    compared, free = group.design.compared, group.design.free
    ends = ("finished", "diverged") if group.design.counts_diverged else ("finished",)
    others = [(run, other_settings(run, free)) for run in members]
    ended = [(run, own) for run, own in others if run.status in ends]
    usual = dict(_most_common(frozenset(own.items()) for _, own in ended) or ())
    scored = [run.scored_by for run, own in ended if own == usual]
    scored_by = {
        how: _most_common(s[how] for s in scored if s.get(how)) for s in scored for how in s
    }
    seen: dict[tuple[str, ...], RunRecord] = {}
    for run, own in others:
        key = tuple(
            str(value)
            for setting, value in run.settings.items()
            if setting == "seed" or (setting.startswith(compared) and setting not in NO_SETTINGS)
        )
        run.left_out = _reason(run, ends, own, usual, scored_by, seen.get(key))
        if run.left_out:
            group.left_out.append(run)
        else:
            seen[key] = run
            group.runs.append(run)
    unknown = group.design is NO_EXPERIMENT
    for run in members:
        run.norm = norm_name(run, group.runs, compared if unknown else ("norm.",))
    group.notes = [*_differences(group.runs, unknown), *_not_finite(group.runs), *_untested(group)]
    return group


def _most_common(found: Iterable[Found]) -> Found | None:
    """Return the most frequent value, the first of several; None if there is none."""
    return next((value for value, _ in Counter(found).most_common(1)), None)


def _reason(
    run: RunRecord,
    ends: Sequence[str],
    own: dict[str, str],
    usual: dict[str, str],
    scored_by: dict[str, str | None],
    twin: RunRecord | None,
) -> str:
    """Return why a run cannot be compared with the others; empty where it can."""
    if run.status not in ends and run.status in ("failed", "diverged"):
        return f"failed: {run.failure}"
    if run.status == "unfinished":
        return f"has not finished; resume it with: {run.run.resume_command()}"
    different = [
        f"{key}={own.get(key)} (the others: {usual.get(key)})"
        for key in sorted(own.keys() | usual.keys())
        if own.get(key) != usual.get(key)
    ]
    if different:
        return f"differs in more than what is compared: {', '.join(different)}"
    for how, text in run.scored_by.items():
        if text not in (None, scored_by.get(how)):
            return f"was scored {how} than the others"
    return f"has the seed and the compared settings of {twin.name}" if twin else ""


def _differences(runs: Sequence[RunRecord], with_settings: bool) -> Iterator[str]:
    """Yield a note for each fact of the machine, versions and perhaps settings that differs."""
    known = [_facts(run, with_settings) for run in runs]
    for key in sorted(set().union(*known)):
        holders: dict[str, list[str]] = {}
        for run, facts in zip(runs, known, strict=True):
            holders.setdefault(facts.get(key, "unknown"), []).append(run.name)
        if len(holders) > 1 + ("unknown" in holders and key == TEXT):  # older runs do not say it
            who = [
                f"{value} in {' and '.join(names) if len(names) < 3 else f'{len(names)} runs'}"
                for value, names in holders.items()
            ]
            yield f"{key} differs: {', '.join(who)}"


def _facts(run: RunRecord, with_settings: bool) -> dict[str, str]:
    """Return what a run's results depend on besides its norm and seed."""
    results, own = run.results, other_settings(run, ("norm.",)) if with_settings else {}
    if results is None:
        return own
    where = {k: getattr(results, k) for k in ("device", "processor", "threads", "commit")}
    where[TEXT] = results.train_sha256
    versions = {f"version of {k}": v for k, v in results.versions.items()}
    return {k: str(v) for k, v in (own | where | versions).items() if v is not None}


def _not_finite(runs: Sequence[RunRecord]) -> Iterator[str]:
    """Yield a note for each run whose probes found values that are not finite."""
    for run in runs:
        if count := sum(not entry.is_finite for entry in run.probes):
            yield f"{run.name}: probes.jsonl has lines with values that are not finite ({count})"


def _untested(group: Group) -> Iterator[str]:
    """Yield a note if some runs have no score on the test set."""
    without = [run.name for run in group.runs if run.results and not run.results.test]
    if 0 < len(without) < len(group.runs):
        yield (
            "scores on the validation set are compared: no score on the test set in"
            f" {' and '.join(without)}"
        )
