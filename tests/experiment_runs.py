"""Runs of each experiment with a known effect: present, reversed, or absent."""

from collections.abc import Iterator
from typing import Any

from synthetic import SEEDS, curve, record

from seq2seq.config import DataConfig, ModelConfig, OptimizerConfig, TrainerConfig
from seq2seq.report.experiments.gradient_flow import NOTICEABLE as NOTICEABLE_GROWTH
from seq2seq.report.experiments.growth import SPAN
from seq2seq.report.experiments.train_eval_gap import NOTICEABLE
from seq2seq.report.statistics import Outcome
from seq2seq.rnn.config import CellNorm, Statistics
from seq2seq.runs.records import RunRecord

NOISE = {1: -0.02, 2: 0.03, 3: -0.01}
"""The noise of each seed; its mean is almost 0."""


def convergence(effect: int) -> Iterator[RunRecord]:
    """Layer norm learns 1.5 ** effect times as fast as none; without an effect, only noise differs."""
    for seed in SEEDS:
        for norm, power in (("none", 0), ("layer", effect), ("batch", effect / 2)):
            rate = 0.05 * 1.5 ** (
                power + (10 * NOISE[seed] if norm == "layer" and not effect else NOISE[seed])
            )
            yield record(norm, seed, "convergence", curve(rate))


def length_lines(within: float, beyond: float, **more: Any) -> list[dict[str, Any]]:
    """Return the lines of a length probe with these losses within and beyond the trained length."""
    return [
        {
            "probe": "length",
            "over": over,
            "pieces": over + 10,
            "trained": 20,
            "statistics": "running",
            "nll": nll,
            "bleu": 50 - 10 * nll,
            "length_ratio": 1.0,
            **more,
        }
        for over, nll in ((0, within), (10, within), (20, beyond), (30, beyond))
    ]


def length(effect: int) -> Iterator[RunRecord]:
    """From within to beyond, none loses 0.5 nats, batch 0.5 + effect, layer 0.5 + 0.1 * effect."""
    for seed in SEEDS:
        for norm, loss in (("none", 0.5), ("batch", 0.5 + effect), ("layer", 0.5 + 0.1 * effect)):
            noise = (20 if not effect and norm == "batch" else 1) * NOISE[seed] * (norm != "none")
            lines = length_lines(1.0, 1.0 + loss + noise)
            if norm == "batch":
                lines += length_lines(1.0, 1.5, statistics="batch")
            yield record(norm, seed, "length", probes=lines)


def batch_size(effect: int) -> Iterator[RunRecord]:
    """All norms are equal at 64 sentences; at 4, batch norm's loss is higher by the effect."""
    for seed in SEEDS:
        for norm in ("none", "batch", "layer"):
            for batch in (4, 16, 64, 256):
                worse = effect if norm == "batch" and batch == 4 else 0.0
                noise = (10 if not effect else 1) * NOISE[seed] * (norm == "batch" and batch == 4)
                yield record(
                    norm,
                    seed,
                    "batch_size",
                    batch=batch,
                    lr=batch / 1e4,
                    results={"valid_loss": 2.0 - 0.001 * batch + worse + noise},
                )


def train_eval_gap(effect: int) -> Iterator[RunRecord]:
    """Batch norm's two losses differ much (1), by about the smallest noticeable amount (0), or not (-1)."""
    apart, drift = {1: (-0.3, 0.2), 0: (NOTICEABLE, 0.0), -1: (0.0, -0.2)}[effect]
    for seed in SEEDS:
        for norm in ("none", "batch", "layer"):
            gap = (
                apart + (NOISE[seed] if effect >= 0 else 0.1 * NOISE[seed])
                if norm == "batch"
                else 0.0
            )
            lines: list[dict[str, Any]] = [
                {
                    "probe": "train_eval_gap",
                    "set": name,
                    "training": 2.1,
                    "batch": 2.0,
                    "evaluation": 2.0 + gap,
                }
                for name in ("train", "test", "test_long")
            ]
            if norm == "batch":
                lines += [
                    {
                        "probe": "train_eval_gap",
                        "set": name,
                        "term": "encoder.layers.0.hh_l0",
                        "steps": [0, 1],
                        "rows": [9, 9],
                        "mean_shift": [shift, shift],
                        "log_scale": [0, 0],
                    }
                    for name, shift in (
                        ("train", 0.3),
                        ("test", 0.3 + drift + NOISE[seed]),
                        ("test_long", 0.5),
                    )
                ]
            yield record(norm, seed, "train_eval_gap", probes=lines)


def flow_lines(sums: float, gradients: float, steps: int = 50) -> Iterator[dict[str, Any]]:
    """Yield the lines of a gradient probe whose sizes double this often at each step."""
    for update in (0, 100):
        for T in (10, steps):
            yield {
                "probe": "gradient_flow",
                "update": update,
                "length": T,
                "raw": [1.0, *(2.0 ** (sums * t) for t in range(1, T))],
                "gradient": [2.0 ** (gradients * (T - 1 - t)) for t in range(T)],
            }


def gradient_flow(effect: int) -> Iterator[RunRecord]:
    """Sizes halve or double every 4 steps without a norm or with a gain of 1, and else stay the same.

    For -1 it is the reverse; for 0 they change by about the smallest noticeable amount.
    """
    none, layer = {1: (0.25, 0.0), -1: (0.0, 0.25), 0: (0.1 + NOTICEABLE_GROWTH / SPAN, 0.1)}[
        effect
    ]
    large, small = {1: (0.25, 0.0), -1: (0.0, 0.25), 0: (NOTICEABLE_GROWTH / SPAN, 0.0)}[effect]
    for cell in ("lstm", "rnn"):
        for seed in SEEDS:
            noise = 3 * NOISE[seed] if not effect else 0.0
            yield record(
                "none",
                seed,
                "gradient_flow",
                probes=flow_lines(none + noise, -none - noise),
                cell=cell,
            )
            yield record(
                "layer", seed, "gradient_flow", probes=flow_lines(layer, -layer), cell=cell
            )
            for gain, slope in ((0.1, small), (1.0, large)):
                lines = flow_lines(0.0, -slope - (noise if gain == 1 else 0))
                yield record(
                    "batch",
                    seed,
                    "gradient_flow",
                    probes=lines,
                    cell=cell,
                    norm_settings={"gain": gain},
                )


STATISTICS = {
    "probe": "train_eval_gap",
    "set": "test",
    "training": 2.1,
    "batch": 2.0,
    "evaluation": 2.25,
}
"""A line of batch norm's losses: the stored statistics cost 0.25 nats a token."""
CHANGES: tuple[tuple[int, dict[str, Any], dict[str, Any]], ...] = (
    (0, {}, {}),
    (-1, {"min_rows": 32}, {}),
    (
        1,
        {},
        {"optimizer": OptimizerConfig(accumulate=4), "data": DataConfig("toy", batch_tokens=512)},
    ),
    (1, {"statistics": Statistics.per_step}, {}),
    (0, {"statistics": Statistics.shared}, {}),
    (-1, {"cell": CellNorm.none}, {}),
    (-1, {"cell_gain": 1.0}, {}),
    (1, {"gain": 0.1}, {}),
    (-1, {}, {"model": ModelConfig(dropout=0.0)}),
    (1, {}, {"trainer": TrainerConfig(recalibrate=False)}),
    (-1, {"momentum": 0.01}, {}),
)
"""(whether the gap shrinks or grows with it, settings of batch norm, other settings)"""


def batch_norm(effect: int) -> Iterator[RunRecord]:
    """Batch norm is behind by 0.1, and by 0.05 more or less where a cause says so (1).

    It is ahead, and each change does the reverse (-1); or there is nothing but noise (0).
    """
    usual = {"statistics": Statistics.sequence_input, "min_rows": 8, "gain": 0.3}
    for seed in SEEDS:
        for i, (change, norm, more) in enumerate(CHANGES):
            settings: dict[str, Any] = {"model": ModelConfig(dropout=0.1), **more}
            if not norm and "trainer" not in more:
                yield record("none", seed, "batch_norm", **settings)
            noise = (0.1 if effect else 5) * NOISE[seed] * (-1) ** i * (1 + i % 3)
            yield record(
                "batch",
                seed,
                "batch_norm",
                probes=[STATISTICS],
                norm_settings=usual | norm,
                results={
                    "valid_loss": 1 + effect * (0.1 + 0.05 * change) + noise,
                    "test": {"bleu": 28.0},
                },
                **settings,
            )


def robustness(effect: int) -> Iterator[RunRecord]:
    """With a norm the loss rises half as fast with the distance from the best rate or scale (1).

    It does so twice as fast (-1), or at the same pace but for noise (0).
    """
    for seed in SEEDS:
        for norm in ("none", "layer", "rms"):
            noise = 4 * NOISE[seed] * (norm != "none") * (effect == 0)
            pace = 0.04 * 2.0 ** (noise - effect * (norm != "none"))
            for scale, layers in ((0.1, 1), (0.01, 1), (1.0, 1), (0.1, 4)):
                for power in range(-5, 6):
                    away = abs(power) + (0 if scale == 0.1 else 4) + layers / 4
                    yield record(
                        norm,
                        seed,
                        "robustness",
                        lr=0.01 * 2.0**power,
                        model=ModelConfig(
                            init_scale=scale, encoder_layers=layers, decoder_layers=layers
                        ),
                        results={"valid_loss": 1 + pace * away},
                    )


def invariance(effect: int) -> Iterator[RunRecord]:
    """Outputs change as the table says (1), or one of them does not (-1)."""
    for seed in SEEDS:
        for norm in ("none", "batch", "layer", "rms"):
            claimed = norm != "none"
            found = 1e-9 if claimed else 3.0
            yield record(
                norm,
                seed,
                "invariance",
                probes=[
                    {
                        "probe": "invariance",
                        "transformation": "matrix re-scaling",
                        "claimed": claimed,
                        "change": 0.5 if effect < 0 and norm == "layer" and seed == 2 else found,
                    }
                ],
            )


BUILDERS = {
    f.__name__: f
    for f in (
        *(convergence, length, batch_size, batch_norm, train_eval_gap, gradient_flow),
        *(robustness, invariance),
    )
}


NOISY = BUILDERS.keys() - {"invariance"}
"""The experiments with noise; an invariance only has a threshold."""


EXPECTED = {1: Outcome.supported, -1: Outcome.refuted, 0: Outcome.undecided}
