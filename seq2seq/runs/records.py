"""What runs have left in their folders, and which of them can be compared with which."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ..config import Config
from ..config.settings import CHANGEABLE, CONFIGS, plain, settings
from ..rnn import NormConfig, NormKind
from .folder import Run, RunError
from .logbook import read_metrics

AXES = {
    "convergence": ("norm.", "optimizer.lr"),
    "length": ("norm.",),
    "batch_size": ("norm.", "data.batch_sentences", "optimizer.lr"),
    "train_eval_gap": ("norm.",),
    "gradient_flow": ("norm.", "cell.kind"),
    "invariance": ("norm.",),
}
"""The settings that an experiment compares, by the beginnings of their names. Without an
experiment: all.

The experiments stand in the order in which they are told.
"""
FOLLOWING = {"batch_size": ("optimizer.warmup_updates",)}
"""Settings that an experiment derives from those it compares."""
NO_SETTINGS = ("seed", "experiment", "size", "data.root", "data.mirror_folder", *CHANGEABLE)
"""What may differ between runs that are repetitions of each other."""
WORDS = {
    ("norm.statistics", "per_step"): "per step, the input too",
    ("norm.statistics", "sequence_input"): "per step",
    ("norm.statistics", "shared"): "shared",
}
"""(setting, value) -> what a norm's name says of it, where that isn't the setting and the value."""
Found = TypeVar("Found")


@dataclass
class RunRecord:
    """What a run has left behind."""

    name: str
    run: Run
    config: Config
    status: str
    """finished, failed or unfinished."""
    results: dict[str, Any] | None
    """None until it has finished."""
    failure: str | None
    """Why it failed."""
    norm: str = ""
    """Its norm's name among the runs that it is compared with."""
    left_out: str = ""
    """Why it can't be compared with these; empty where it can."""

    @property
    def has_curves(self) -> bool:
        """Whether anything stands in metrics.jsonl, which takes its time to be read."""
        return self.run.metrics_file.is_file() and self.run.metrics_file.stat().st_size > 0

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        return read_metrics(self.run.metrics_file)

    @cached_property
    def _by_kind(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for entry in self.metrics:
            found.setdefault(entry["kind"], []).append(entry)
        return found

    @cached_property
    def probes(self) -> list[dict[str, Any]]:
        """The lines of probes.jsonl, with nan for each figure that was not finite."""
        return [
            {key: _figures(value) for key, value in entry.items()}
            for entry in read_metrics(self.run.probes_file)
        ]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Every setting by its dotted key."""
        return settings(self.config)

    @property
    def test_text(self) -> str | None:
        """The checksum of the references that its test score is by; None where that isn't known."""
        found: str | None = (self.results or {}).get("test", {}).get("reference_sha256")
        return found

    def series(self, kind: str, key: str, by: str = "update") -> tuple[list[float], list[float]]:
        """One logged quantity where it was finite: (updates, seconds or tokens; values)."""
        entries = [e for e in self._by_kind.get(kind, ()) if e.get(key) is not None]
        return [e[by] for e in entries], [e[key] for e in entries]

    def probed(self, probe: str, **wanted: Any) -> list[dict[str, Any]]:
        """What a probe found, of those lines that have these values."""
        return [
            p
            for p in self.probes
            if p["probe"] == probe and all(p.get(k) == v for k, v in wanted.items())
        ]


def _figures(value: Any) -> Any:
    """A value of a line of JSON, nan for null."""
    if isinstance(value, list):
        return [_figures(v) for v in value]
    return math.nan if value is None else value


def is_finite(entry: dict[str, Any]) -> bool:
    """Whether all figures of a line of probes.jsonl are."""
    figures = [
        v for value in entry.values() for v in (value if isinstance(value, list) else [value])
    ]
    return all(math.isfinite(v) for v in figures if isinstance(v, float))


def read_runs(folders: Sequence[str]) -> tuple[list[RunRecord], list[str]]:
    """The runs, finished or not, by name, and a line for each folder that is left out, with the
    reason.

    That is one in which no run has begun, as a failed job of a sweep leaves it, or whose files this
    version can't read. RunError for a folder that isn't there, or where nothing is left.
    """
    found, left_out = [], []
    for name, folder in named(folders).items():
        if _is_bare(folder):
            why = Run(folder).failure()
            left_out.append(
                f"{name}: left out: {f'failed: {why}' if why else 'its training has not begun'}"
            )
            continue
        run = Run.open(folder)
        try:
            found.append(
                RunRecord(name, run, run.config(), run.state(), run.results(), run.failure())
            )
        except RunError as error:
            left_out.append(f"{name}: left out: {error}")
    if not found:
        raise RunError(f"no run can be compared: {'; '.join(left_out)}")
    return found, left_out


def _is_bare(folder: str) -> bool:
    """Whether this is a folder, but no run has begun in it."""
    return Path(folder).is_dir() and not Run(folder).config_file.is_file()


def named(folders: Sequence[str]) -> dict[str, str]:
    """The folders by as little of their paths' ends as tells them apart."""
    paths = [Path(folder).resolve().parts for folder in folders]
    if len(set(paths)) < len(paths):
        raise RunError("a run is named twice; expected each once")
    depth = 1
    while len({path[-depth:] for path in paths}) < len(paths):
        depth += 1
    return {"/".join(path[-depth:]): folder for folder, path in zip(folders, paths, strict=True)}


# -- groups ---


@dataclass
class Group:
    """The runs of one experiment, size and corpus."""

    experiment: str | None
    size: str | None
    corpus: str
    runs: list[RunRecord] = field(default_factory=list)
    """Finished, and different from each other in nothing but what is compared and the seed."""
    left_out: list[RunRecord] = field(default_factory=list)
    """The others."""
    notes: list[str] = field(default_factory=list)
    """What differs beside what an experiment compares: machine, threads, versions; without one,
    settings too.
    """

    @property
    def compares_norms(self) -> bool:
        """Whether its norms are to be set side by side as a whole."""
        return self.experiment == "convergence" or self.experiment not in AXES

    @property
    def searches_rates(self) -> bool:
        """Whether a norm was trained at several learning rates, of which the best counts."""
        return any(
            len({run.config.optimizer.lr for run in self.of(norm=norm)}) > 1 for norm in self.norms
        )

    @property
    def comparisons(self) -> dict[str, list[str]]:
        """The name of a none -> the norms to be set beside it, and itself: those that differ in
        nothing but the norm.

        One that has no such none stands beside the most usual one. Without a none all norms, under
        "".
        """
        nones, found = self.variants("none"), dict[str, list[str]]()
        for norm in self.norms:
            alike = [none for none in nones if self._beside_norm(none) == self._beside_norm(norm)]
            found.setdefault(next(iter(alike or nones), ""), []).append(norm)
        return found

    def _beside_norm(self, norm: str) -> dict[str, str]:
        """The other settings of a norm's runs, but for those that the experiment compares."""
        return _others(
            self.of(norm=norm)[0], _free(self.experiment) if self.experiment in AXES else ("norm.",)
        )

    @property
    def where(self) -> str:
        """Corpus and size: grammar_en_zh, quick."""
        return ", ".join(part for part in (self.corpus, self.size) if part)

    def of(self, **wanted: Any) -> list[RunRecord]:
        """The runs with these settings (norm: the norm's name), by seed; `data__x` stands for
        data.x.
        """
        found = [
            r for r in self.runs if all(value_of(r, key) == value for key, value in wanted.items())
        ]
        return sorted(found, key=lambda r: r.config.seed)

    def values(self, key: str) -> list[Any]:
        """The different values of a setting among the runs."""
        return list(dict.fromkeys(value_of(r, key) for r in self.runs))

    @property
    def norms(self) -> list[str]:
        """The norms' names, none first, each kind's variants together, the plain one first."""
        return [norm for kind in NormKind for norm in self.variants(kind.value)]

    def variants(self, kind: str, **wanted: Any) -> list[str]:
        """The norms of a kind with these settings, as in statistics="shared"; first the most like
        norm=KIND's own.
        """
        found = {
            run.norm: run
            for run in self.runs
            if run.config.norm.kind.value == kind
            and all(run.settings[f"norm.{key}"] == value for key, value in wanted.items())
        }
        return sorted(found, key=lambda norm: (departures(found[norm]), norm))

    def kind(self, norm: str) -> str:
        """The kind of a norm, which gives its colour."""
        return next(run.config.norm.kind.value for run in self.runs if run.norm == norm)

    def variant(self, norm: str) -> int:
        """Which of the norms of its kind it is, which gives its dashes."""
        return self.variants(self.kind(norm)).index(norm)

    @property
    def split(self) -> str:
        """Whose scores are compared: test's, or valid's where a run has no test set."""
        return "test" if all("test" in (run.results or {}) for run in self.runs) else "valid"

    def scores(self, run: RunRecord) -> dict[str, Any]:
        """BLEU and chrF of a run of the group, with their signatures."""
        found: dict[str, Any] = (run.results or {})[self.split]
        return found

    def bleu(self, run: RunRecord) -> float:
        """Of a run of the group."""
        return float(self.scores(run)["bleu"])

    def paired(
        self, figure: Callable[[RunRecord], float | None], **wanted: Any
    ) -> dict[int, float]:
        """seed -> a figure of the run with these settings, where it has one."""
        return by_seed(self.of(**wanted), figure)


def by_seed(
    runs: Sequence[RunRecord], figure: Callable[[RunRecord], float | None]
) -> dict[int, float]:
    """seed -> a figure of its run, where it has one that is finite. ValueError where several runs
    have a seed.
    """
    seeds = [run.config.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise ValueError(
            f"{', '.join(run.name for run in runs)}: differ in a setting that this experiment does"
            " not compare; expected one run of each seed"
        )
    found = {run.config.seed: figure(run) for run in runs}
    return {
        seed: value for seed, value in found.items() if value is not None and math.isfinite(value)
    }


def value_of(run: RunRecord, key: str) -> Any:
    """A setting, or the norm's name."""
    return run.norm if key == "norm" else run.settings[key.replace("__", ".")]


def groups(runs: Sequence[RunRecord]) -> list[Group]:
    """The runs by experiment, size and corpus, those that can't be compared with the others set
    apart.

    Known experiments come first, in their order.
    """
    found: dict[tuple[str | None, str | None, str], list[RunRecord]] = {}
    for run in runs:
        found.setdefault((run.config.experiment, run.config.size, run.config.data.name), []).append(
            run
        )
    order = list(AXES)
    keys = sorted(found, key=lambda key: order.index(key[0]) if key[0] in order else len(order))
    return [_group(Group(*key), found[key]) for key in keys]


def _group(group: Group, members: list[RunRecord]) -> Group:
    known = group.experiment in AXES
    axes = AXES[group.experiment or ""] if known else ("",)  # every setting
    free = _free(group.experiment)
    usual = _most_common([_others(run, free) for run in members if run.status == "finished"])
    alike = [run for run in members if run.status == "finished" and _others(run, free) == usual]
    text = _most_common([run.test_text for run in alike if run.test_text])
    seen: dict[tuple[str, ...], RunRecord] = {}
    for run in members:
        key = tuple(
            str(value)
            for setting, value in run.settings.items()
            if setting == "seed" or (setting.startswith(axes) and setting not in NO_SETTINGS)
        )
        run.left_out = _reason(run, _others(run, free), usual or {}, text, seen.get(key))
        if run.left_out:
            group.left_out.append(run)
        else:
            seen[key] = run
            group.runs.append(run)
    for run in members:
        run.norm = norm_name(run, group.runs, ("norm.",) if known else axes)
    group.notes = [
        *_differences(group.runs, settings_too=not known),
        *_not_finite(group.runs),
        *_untested(group),
    ]
    return group


def _free(experiment: str | None) -> tuple[str, ...]:
    """How the names of those settings begin in which an experiment's runs may differ; any, without
    one that we know.
    """
    return (*AXES.get(experiment or "", ("",)), *FOLLOWING.get(experiment or "", ()))


def _others(run: RunRecord, free: tuple[str, ...]) -> dict[str, str]:
    """A run's settings but for those whose names begin with these."""
    return {
        key: str(value)
        for key, value in run.settings.items()
        if not key.startswith(free) and key not in NO_SETTINGS
    }


def _most_common(found: Sequence[Found]) -> Found | None:
    """Of several the first; None where there is nothing."""
    return max(found, key=found.count, default=None)


def _reason(
    run: RunRecord,
    own: dict[str, str],
    usual: dict[str, str],
    text: str | None,
    twin: RunRecord | None,
) -> str:
    """Why a run can't be compared with the others; empty where it can."""
    if run.status == "failed":
        return f"failed: {run.failure}"
    if run.status == "unfinished":
        return f"has not finished; go on with: {run.run.resume_command()}"
    different = [
        f"{key}={own.get(key)} (the others: {usual.get(key)})"
        for key in sorted(own.keys() | usual.keys())
        if own.get(key) != usual.get(key)
    ]
    if different:
        return f"differs in more than what is compared: {', '.join(different)}"
    if run.test_text not in (None, text):
        return "was scored on other text: its test set is not the others'"
    return (
        f"has the seed of {twin.name} and the same settings, as far as they are compared"
        if twin
        else ""
    )


def _differences(runs: Sequence[RunRecord], settings_too: bool) -> Iterator[str]:
    """A line for each of device, processor, threads and versions, and of the settings where wanted,
    that differs.
    """
    known = [_facts(run, settings_too) for run in runs]
    for key in sorted(set().union(*known)):
        holders: dict[str, list[str]] = {}
        for run, facts in zip(runs, known, strict=True):
            holders.setdefault(facts.get(key, "unknown"), []).append(run.name)
        if len(holders) > 1:
            who = [
                f"{value} in {' and '.join(names) if len(names) < 3 else f'{len(names)} runs'}"
                for value, names in holders.items()
            ]
            yield f"{key} differs: {', '.join(who)}"


def _facts(run: RunRecord, settings_too: bool) -> dict[str, str]:
    """What a run's figures depend on beside its norm and seed."""
    results = run.results or {}
    own = _others(run, ("norm.",)) if settings_too else {}
    where = {k: results[k] for k in ("device", "processor", "threads") if k in results}
    versions = {f"version of {k}": v for k, v in results.get("versions", {}).items()}
    return {k: str(v) for k, v in (own | where | versions).items()}


def _not_finite(runs: Sequence[RunRecord]) -> Iterator[str]:
    """A line for each run whose probes met figures that are not finite, which no mean can take
    in.
    """
    for run in runs:
        if count := sum(not is_finite(entry) for entry in run.probes):
            yield f"{run.name}: probes.jsonl has lines with figures that are not finite ({count})"


def _untested(group: Group) -> Iterator[str]:
    """A line where some runs have no score on the test set, for which all are compared by
    another.
    """
    without = [run.name for run in group.runs if "test" not in (run.results or {})]
    if 0 < len(without) < len(group.runs):
        yield (
            f"scores of the validation set are compared: {' and '.join(without)} has none of the"
            " test set"
        )


def norm_name(run: RunRecord, among: Sequence[RunRecord], settings: tuple[str, ...]) -> str:
    """batch; or batch (statistics shared), where runs of the same kind of norm differ in such a
    setting.
    """
    kin = [r for r in among if r.config.norm.kind is run.config.norm.kind]
    differing = [
        key
        for key in run.settings
        if key.startswith(settings)
        and key not in NO_SETTINGS
        and len({str(r.settings.get(key)) for r in kin}) > 1
    ]
    own = {key: str(run.settings[key]) for key in differing}
    parts = [
        WORDS.get((key, value)) or f"{key.removeprefix('norm.').replace('_', ' ')} {value}"
        for key, value in own.items()
    ]
    return run.config.norm.kind.value + (f" ({', '.join(parts)})" if parts else "")


def departures(run: RunRecord) -> int:
    """In how many settings a run's norm is not as norm=KIND has it."""
    usual = usual_norm(run.config.norm.kind.value)
    return sum(run.settings[f"norm.{key}"] != value for key, value in usual.items())


@cache
def usual_norm(kind: str) -> dict[str, Any]:
    """The settings of configs/norm/KIND.yaml."""
    own = yaml.safe_load((CONFIGS / "norm" / f"{kind}.yaml").read_text(encoding="utf-8"))
    return {key: own.get(key, value) for key, value in plain(NormConfig()).items()}


def labels(runs: Sequence[RunRecord]) -> list[str]:
    """A short name for each run: its norm, with what else is needed to tell it apart, or its
    folder's name.

    That is its experiment, corpus and size where the runs are of several, and its seed.
    """
    places = [(r.config.experiment, r.config.data.name, r.config.size) for r in runs]
    several = [len(set(parts)) > 1 for parts in zip(*places, strict=True)]
    norms = [
        ", ".join(
            [r.norm, *(part for part, told in zip(place, several, strict=True) if told and part)]
        )
        for r, place in zip(runs, places, strict=True)
    ]
    seeds = [f"{norm}, seed {r.config.seed}" for norm, r in zip(norms, runs, strict=True)]
    return next(
        names for names in (norms, seeds, [r.name for r in runs]) if len(set(names)) == len(names)
    )
