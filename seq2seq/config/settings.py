"""Every setting by its key: which of them make a run another one, and what range a number has.
Needs no torch.
"""

import re
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ..rnn import NormConfig, NormKind
from .groups import Config, DecodeConfig, ProbeKind

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
"""Where the settings of train.py are named and explained."""
NOT_SETTINGS = ("resume", "overwrite")
"""What a run is started with and is no part of it."""
CHANGEABLE = (
    *NOT_SETTINGS,
    "trainer.device",
    "trainer.threads",
    "trainer.histograms",
    "trainer.progress",
    "data.mirror",
)
"""Settings that change nothing of what a run computes."""
EXTENDABLE = ("trainer.max_updates", "trainer.max_epochs")
"""Settings that change nothing of the training so far."""
AT_LEAST_ONE = (
    "optimizer.accumulate",
    "optimizer.plateau_patience",
    "trainer.max_epochs",
    "trainer.max_updates",
    "trainer.validate_every",
    "trainer.validate_sentences",
    "trainer.checkpoint_every",
    "trainer.log_every",
    "trainer.patience",
    "trainer.recalibrate_batches",
    "trainer.threads",
    "probe.sentences",
    "probe.batches",
    "probe.bucket_sentences",
)
AT_LEAST_ZERO = (
    "optimizer.lr",
    "optimizer.momentum",
    "optimizer.weight_decay",
    "optimizer.warmup_updates",
    "optimizer.clip_norm",
    "trainer.average_last",
)
PARTS = ("trainer.label_smoothing", "model.dropout")
"""Settings from 0 to, but not including, 1."""
SHORTEST = 3
"""Time steps of a sequence in which sums can grow: the first one's has no recurrent term."""


def flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one with dotted keys."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        k: v
        for key, part in value.items()
        for k, v in flatten(part, f"{prefix}.{key}" if prefix else key).items()
    }


def plain(value: Any) -> Any:
    """A configuration, or a part of it, as config.yaml has it: dictionaries, lists, enums by
    name.
    """
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value.name if isinstance(value, Enum) else value


def settings(config: Config) -> dict[str, Any]:
    """Every setting by its dotted key, enums by name."""
    return flatten(plain(config))


def differences(old: Config, new: Config) -> dict[str, tuple[Any, Any]]:
    """The settings that matter and differ: key -> (old, new)."""
    a, b = settings(old), settings(new)
    return {
        key: (a.get(key), b.get(key))
        for key in sorted(a.keys() | b.keys())
        if a.get(key) != b.get(key) and key not in CHANGEABLE
    }


def check_settings(config: Config) -> None:
    """ValueError where a number is out of its range: before training, not when it is first used."""
    found = settings(config)
    for key in (*AT_LEAST_ONE, *AT_LEAST_ZERO, *PARTS):
        least = 1 if key in AT_LEAST_ONE else 0
        if found[key] is not None and found[key] < least:
            raise ValueError(f"{key}={found[key]}: expected at least {least}")
        if key in PARTS and found[key] >= 1:
            raise ValueError(f"{key}={found[key]}: expected less than 1")
    check_decode(config.decode)
    check_probe(config)


def check_probe(config: Config) -> None:
    """ValueError where a probe would fail, or measure something else than it says."""
    probe, norm = config.probe, config.norm
    if min(probe.lengths, default=SHORTEST) < SHORTEST:
        raise ValueError(
            f"probe.lengths={probe.lengths}: expected at least {SHORTEST}: sums grow from the"
            " second"
        )
    if probe.buckets != sorted({0, *probe.buckets})[1:]:
        raise ValueError(
            f"probe.buckets={probe.buckets}: expected ascending numbers of pieces from 1"
        )
    own = [kind.value for kind in probe.kinds if kind is not ProbeKind.length]
    if own and not has_statistics(norm, probe.sentences):
        raise ValueError(
            f"probe.sentences={probe.sentences}: expected at least norm.min_rows={norm.min_rows}"
            f" for {', '.join(own)}, else batch norm does not normalise by the batch's own"
            " statistics"
        )


def has_statistics(norm: NormConfig, sentences: int) -> bool:
    """Whether so many have statistics of their own: not where batch norm keeps to the stored ones
    for so few.
    """
    return norm.kind is not NormKind.batch or sentences >= norm.min_rows


def length_limit(rule: str) -> tuple[float, float]:
    """(a, b) of 'Ax+B': longest translation as a times the source's length plus b; a plain number
    is (0, B).
    """
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)x)?(?:\+?(\d+))?", rule.strip())
    if not rule.strip() or match is None:
        raise ValueError(
            f"decode.max_length={rule!r}: expected 'Ax+B', such as '2x+10', or a number of pieces"
        )
    return float(match[1] or 0), float(match[2] or 0)


def check_decode(config: DecodeConfig) -> None:
    """ValueError where a setting can't be searched with."""
    for name in ("beam_size", "batch_size"):
        if getattr(config, name) < 1:
            raise ValueError(f"decode.{name}={getattr(config, name)}: expected at least 1")
    length_limit(config.max_length)
