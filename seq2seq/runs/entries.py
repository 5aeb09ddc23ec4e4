"""The entries of metrics.jsonl and probes.jsonl."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ..stored import damaged
from .jsonl import read_metrics, record_of, with_nan
from .typed import check_count

POSITION = ("update", "epoch", "tokens", "seconds")
LOSSES = {"loss", "nll", "perplexity"}
"""Values that are not negative."""
LARGEST_EXPONENT = 100
"""Bound on a loss in nats whose perplexity is computed: exp() stays finite."""


@dataclass
class MetricEntry:
    """What a run logged at one update."""

    kind: str
    """train or valid"""
    update: int
    epoch: int | None = None
    tokens: int | None = None
    """Target tokens trained on so far."""
    seconds: float | None = None
    """Training time so far."""
    values: dict[str, float | None] = field(default_factory=dict)
    """Name -> value, None where it was not finite."""

    @classmethod
    def of_json(cls, entry: Mapping[str, Any], file: Path) -> "MetricEntry":
        """Return the entry of a line of a metrics.jsonl; ValueError names a value that is none."""
        values = {k: v for k, v in entry.items() if k not in ("kind", *POSITION)}
        known = {name: entry[name] for name in ("kind", *POSITION) if name in entry}
        found = record_of(cls, known | {"values": values}, file)
        found.values = {k: v if v is None or math.isfinite(v) else None for k, v in values.items()}
        try:
            for name in POSITION:
                check_count(getattr(found, name), name)
            for name in LOSSES & found.values.keys():
                check_count(found.values[name], name)
        except ValueError as error:
            raise damaged(file, error) from error
        return found

    def as_json(self) -> dict[str, Any]:
        """Return the line of metrics.jsonl."""
        return {"kind": self.kind, **{n: getattr(self, n) for n in POSITION}, **self.values}


@dataclass(kw_only=True)
class ProbeEntry:
    """A line of probes.jsonl; nan stands for a value that was not finite."""

    update: int = 0
    final: bool = True
    """Whether the final weights were measured."""

    @property
    def is_finite(self) -> bool:
        """Whether every number of the entry is finite."""
        values = [getattr(self, f.name) for f in fields(self)]
        numbers = [n for v in values for n in (v if isinstance(v, list) else [v])]
        return all(math.isfinite(n) for n in numbers if isinstance(n, float))


@dataclass(kw_only=True)
class GradientFlow(ProbeEntry):
    """Sizes by time step, for sequences of one length; see seq2seq/probes/gradient_flow.py."""

    length: int
    raw: list[float]
    """(T,) summed inputs u + z before any norm"""
    gradient: list[float]
    """(T,) |d loss / d h_t|"""
    summed: list[float] = field(default_factory=list)
    hidden: list[float] = field(default_factory=list)
    gradient_c: list[float] = field(default_factory=list)
    singular_value: float | None = None
    """The largest one of the matrices of W_hh; None in older runs."""


@dataclass(kw_only=True)
class ModeLosses(ProbeEntry):
    """Losses of the same batches in three modes, in nats a token; see train_eval_gap.py."""

    set: str
    training: float
    batch: float
    """With the batch's own statistics, without dropout."""
    evaluation: float
    """With the stored statistics, without dropout."""
    sentences: int = 0


@dataclass(kw_only=True)
class StatisticsDistance(ProbeEntry):
    """Distance of the stored statistics of a term from a set's, by step; see train_eval_gap.py."""

    set: str
    term: str
    steps: list[int]
    rows: list[float]
    mean_shift: list[float]
    """In stored standard deviations."""
    log_scale: list[float]
    """Natural logarithm of the ratio of the standard deviations."""


@dataclass(kw_only=True)
class Invariance(ProbeEntry):
    """How much a change to weights or data changes the output; see probes/invariance.py."""

    transformation: str
    claimed: bool
    """Whether the papers say that the output stays the same."""
    change: float
    change_eps: float | None = None
    """The same with the run's own eps."""


@dataclass(kw_only=True)
class LengthBucket(ProbeEntry):
    """Quality on the test sentences of about one length; see probes/length.py."""

    over: int
    """The bucket's sentences have more pieces than this."""
    pieces: int
    """The most pieces of a sentence of the bucket."""
    trained: int
    """The most pieces of a training sentence."""
    statistics: str = "running"
    """running or batch: the statistics that batch norm used."""
    sentences: int = 0
    nll: float
    """Loss in nats a token, teacher-forced."""
    bleu: float
    chrf: float | None = None
    length_ratio: float
    """Characters of the translations over those of the references."""


def kind_of(entry: Mapping[str, Any]) -> type[ProbeEntry] | None:
    """Return the class of a line of probes.jsonl; None for a probe of a newer version."""
    probe = str(entry.get("probe", ""))
    if probe == "train_eval_gap":
        return StatisticsDistance if "term" in entry else ModeLosses
    kinds = {"gradient_flow": GradientFlow, "invariance": Invariance, "length": LengthBucket}
    return kinds.get(probe)


def read_probes(file: Path) -> list[ProbeEntry]:
    """Return the lines of a probes.jsonl; ValueError names a value that is missing."""
    found = []
    for entry in read_metrics(file):
        if kind := kind_of(entry):
            values = {key: with_nan(value) for key, value in entry.items()}
            found.append(record_of(kind, values, file))
    return found


def perplexity(nll: float) -> float:
    """Return exp(nll), nll being the mean negative log-likelihood of a token in nats."""
    return math.exp(min(nll, LARGEST_EXPONENT))
