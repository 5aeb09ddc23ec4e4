"""The commands of scripts/benchmark.py: from its options to results."""

import argparse
from collections.abc import Callable

from ..app.composition import compose_here
from ..config import Config
from ..device import set_threads
from . import tables
from .contestants import contestants
from .decoding import decoding_speeds
from .plain import check
from .results import Results
from .training import training_speeds
from .workload import Workload, preset, workload

Options = argparse.Namespace


def begun(options: Options) -> Results:
    """Set the number of threads; return results without any table."""
    set_threads(options.threads)
    return Results()


def layers(options: Options) -> Results:
    """Measure single layers."""
    results = begun(options)
    results.timings = tables.layers(options.size, options.rounds, options.compile)
    return results


def train(options: Options) -> Results:
    """Measure parameter updates of whole translators."""
    results = begun(options)
    base, configs, results.settings = composed(options)
    work = prepared(base, options)
    found = contestants(base, configs, options.feeding, orders=(False, True))
    results.training = training_speeds(work, found, options.rounds)
    return results


def decode(options: Options) -> Results:
    """Measure search."""
    results = begun(options)
    base, configs, results.settings = composed(options)
    work = prepared(base, options)
    found = contestants(base, configs, options.feeding)
    results.decoding = decoding_speeds(work, found, options.trained, options.rounds)
    return results


def memory(options: Options) -> Results:
    """Measure memory."""
    results = begun(options)
    results.memory = tables.memories(options.size)
    return results


def composed(options: Options) -> tuple[Config, dict[str, Config], list[str]]:
    """Return the settings of norm=none, those of each norm asked for, and their overrides.

    ValueError for settings that the rival does not have.
    """
    corpus = [f"data={options.data}"]
    origin = compose_here(corpus).data.origin
    overrides = [*corpus, *preset(origin, options.size), *options.set]
    norms = options.norms.split(",")
    configs = {norm: compose_here([*overrides, f"norm={norm}"]) for norm in dict.fromkeys(norms)}
    base = compose_here([*overrides, "norm=none"])
    check(base)
    return base, configs, overrides


def prepared(base: Config, options: Options) -> Workload:
    """Return the corpus and the parts of it that the options ask for."""
    updates, sentences = getattr(options, "updates", 1), getattr(options, "sentences", 0)
    if options.size == "small":
        updates, sentences = min(updates, 2), min(sentences, 8)
    return workload(base, updates, sentences)


def everything(options: Options) -> Results:
    """Measure everything."""
    results = layers(options)
    results.training = train(options).training
    decoded = decode(options)
    results.decoding, results.settings = decoded.decoding, decoded.settings
    results.memory = memory(options).memory
    return results


COMMANDS: dict[str, Callable[[Options], Results]] = {
    "layers": layers,
    "train": train,
    "decode": decode,
    "memory": memory,
    "all": everything,
}
"""What each command of the script does."""
