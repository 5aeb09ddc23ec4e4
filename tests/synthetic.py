"""Records of runs that were never trained, with the figures that a test gives them."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from seq2seq.config import CellConfig, CellKind, Config, DataConfig, OptimizerConfig
from seq2seq.report.experiments import groups
from seq2seq.report.groups import Group
from seq2seq.rnn import NormConfig, NormKind
from seq2seq.runs.entries import MetricEntry, ProbeEntry, kind_of
from seq2seq.runs.folder import Run
from seq2seq.runs.jsonl import record_of
from seq2seq.runs.records import RunRecord
from seq2seq.runs.results import results_of

Metric = MetricEntry | Mapping[str, Any]
Probe = ProbeEntry | Mapping[str, Any]
SEEDS = (1, 2, 3)
SIGNATURE = "BLEU|nrefs:1|case:mixed|eff:no|tok:zh|smooth:exp|version:2.6.0"


def record(
    norm: str = "none",
    seed: int = 1,
    experiment: str | None = "convergence",
    metrics: Iterable[Metric] = (),
    probes: Iterable[Probe] = (),
    cell: str = "lstm",
    batch: int | None = None,
    lr: float = 1e-3,
    results: Mapping[str, Any] | None = None,
    norm_settings: Mapping[str, Any] | None = None,
    **settings: Any,
) -> RunRecord:
    """Return a finished run; `results` are added to those that every run has."""
    config = Config(
        norm=NormConfig(NormKind[norm], **norm_settings or {}),
        cell=CellConfig(CellKind[cell]),
        seed=seed,
        data=DataConfig(name="toy", batch_tokens=None if batch else 2048, batch_sentences=batch),
        optimizer=OptimizerConfig(lr=lr),
        experiment=experiment,
        size="quick",
    )
    config = replace(config, **settings)
    score = {"bleu": 30.0, "chrf": 40.0, "bleu_signature": SIGNATURE, "chrf_signature": "chrF|x"}
    known = {
        "norm": norm,
        "seed": seed,
        "valid_loss": 1.0,
        "update": 100,
        "tokens_per_second": 1000.0,
        "parameters": 10,
        "wall_seconds": 60.0,
        "test": score,
        "valid": score,
        "device": "cpu",
        "threads": 1,
        "versions": {"torch": "2"},
        "decode": {"beam_size": 5, "length_penalty": 1.0},
    }
    given = dict(results or {})
    for split in ("test", "valid"):
        given[split] = score | given.get(split, {})
    name = f"{norm}-{cell}-{seed}-{batch}-{lr}"
    found = results_of(known | given, Path(name))
    made = RunRecord(name, Run(Path("nowhere") / name), config, "finished", found, None)
    made.__dict__ |= {"metrics": list(map(metric, metrics)), "probes": list(map(probe, probes))}
    return made


def metric(entry: Metric) -> MetricEntry:
    """Return an entry of metrics.jsonl, from the line's values."""
    return (
        entry
        if isinstance(entry, MetricEntry)
        else MetricEntry.of_json(entry, Path("metrics.jsonl"))
    )


def probe(entry: Probe) -> ProbeEntry:
    """Return an entry of probes.jsonl, from the line's values."""
    if isinstance(entry, ProbeEntry):
        return entry
    kind = kind_of(entry)
    assert kind
    return record_of(kind, entry, Path("probes.jsonl"))


def group(runs: Iterable[RunRecord]) -> Group:
    """Return the only group of these runs."""
    (found,) = groups(list(runs))
    return found


def curve(
    rate: float,
    seconds_an_update: float = 0.1,
    updates: Iterable[int] = range(0, 101, 5),
    floor: float = 0.5,
) -> Iterator[dict[str, Any]]:
    """Yield the metrics.jsonl of a loss that falls as exp(-rate * update) to a floor."""
    for update in updates:
        position = {
            "update": update,
            "epoch": 0,
            "tokens": 10 * update,
            "seconds": seconds_an_update * update,
        }
        loss = floor + 3 * math.exp(-rate * update)
        yield {"kind": "train", **position, "loss": loss, "nll": loss, "tokens_per_second": 100.0}
        yield {"kind": "valid", **position, "loss": loss, "bleu": 100 - 20 * loss}
