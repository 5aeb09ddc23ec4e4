"""The commands of scripts/benchmark.py: from its options to results."""

import json
import shlex
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from ..app.composition import compose_here
from ..config import Config, Device, Precision
from ..device import choose_device, set_threads
from ..files import write_text
from . import gpu, tables
from .contestants import Contestant, contestants
from .decoding import decoding_speeds, in_float32, in_precision, new_search
from .memory import decoding_peaks, training_peaks
from .options import Options, check_effects
from .peak import check_memory
from .plain import check
from .processes import times_together
from .profiling import profiled
from .results import Results
from .runs import training_speeds_of
from .scaling import scales
from .startup import starts
from .timing import Task
from .trained import trained_run
from .training import training_speeds, training_task
from .workload import PEERS, SMALL, Workload, preset, workload


def begun(options: Options) -> Results:
    """Set the number of threads; return results without any table."""
    set_threads(options.threads)
    return Results()


def layers(options: Options) -> Results:
    """Measure single layers, on a CPU or a GPU."""
    if options.what == "layers":
        device = choose_device(Device[options.device], "--device ")
        options.device = device.type  # which auto has left open
        check_effects(options)
        if device.type == "cuda":
            return layers_on_gpu(options, device)
    results = begun(options)
    results.timings = tables.layer_timings(options.size, options.rounds, options.compile)
    return results


def layers_on_gpu(options: Options, device: torch.device) -> Results:
    """Check and measure single layers on a GPU."""
    results, until = begun(options), time.monotonic() + 60 * options.minutes
    results.machine |= gpu.versions(device)
    plan = gpu.Plan(device, options.size, options.rounds, until)
    gpu.measure(results, plan, partial(write, results, options))
    return results


def write(results: Results, options: Options) -> None:
    """Write all numbers to the file asked for, if any, and what they depend on."""
    if options.json is not None:
        asked = {"command": shlex.join(sys.argv), "rounds": getattr(options, "rounds", None)}
        text = json.dumps({**asked, **results.as_json()}, indent=2) + "\n"
        write_text(options.json, text)


def train(options: Options) -> Results:
    """Measure parameter updates of whole translators, or profile one of them."""
    results = begun(options)
    base, configs, results.settings = composed(options)
    work = prepared(base, options)
    if options.profile is not None:
        contestant = chosen(base, options)
        model, task = training_task(work, contestant)
        profile(results, f"training, {contestant.name}, {base.data.name}", task, model)
        return results
    precisions = [Precision(name) for name in options.precisions]
    found = contestants(base, configs, options.feeding, (False, True), precisions)
    results.training = training_speeds(work, found, options.rounds)
    return results


def decode(options: Options) -> Results:
    """Measure search, or profile one."""
    results = begun(options)
    base, configs, results.settings = composed(options)
    work = prepared(base, options)
    if options.profile is not None:
        contestant = chosen(base, options)
        run = trained_run(in_float32(contestant), work.prepared, options.trained)
        model, search = new_search(contestant, run)
        search = in_precision(search, contestant.config.trainer.precision)
        title = f"beam {base.decode.beam_size}, {contestant.name}, {base.data.name}"
        profile(results, title, partial(search, work.sentences, base.decode), model)
        return results
    precisions = [Precision(name) for name in options.precisions]
    found = contestants(base, configs, options.feeding, precisions=precisions)
    results.decoding = decoding_speeds(work, found, options.trained, options.rounds)
    return results


def chosen(base: Config, options: Options) -> Contestant:
    """Return the contestant to profile: the rival, or ours with a norm."""
    if options.profile == "plain":
        return Contestant(base, None, by_length=True)
    return Contestant(
        compose_here([*overrides(options), f"norm={options.profile}"]), options.profile
    )


def profile(results: Results, title: str, task: Task, model: nn.Module) -> None:
    """Profile a task and add its tables to the results."""
    shares, operators = profiled(task, model, "translator")
    results.profiles[title], results.operators[title] = shares, operators


def memory(options: Options) -> Results:
    """Measure memory of layers and of translators; ValueError where the system does not tell."""
    check_memory()
    results = begun(options)
    results.memory = tables.memories(options.size)
    base, configs, results.settings = composed(options)
    work, threads = prepared(base, options), torch.get_num_threads()
    found = contestants(base, configs, options.feeding)
    results.memory |= training_peaks(found, len(work.batches), threads)
    sentences = len(work.sentences)
    results.memory |= decoding_peaks(found, work.prepared, options.trained, sentences, threads)
    return results


def startup(options: Options) -> Results:
    """Measure start-up, of the commands as a user starts them."""
    results = begun(options)
    base, configs, results.settings = composed(options)
    work = prepared(base, options)
    norm, config = next(iter(configs.items()))
    run = trained_run(Contestant(config, norm), work.prepared, options.trained)
    line = work.prepared.split("valid").lines("source")[0]
    asked = [*results.settings, f"norm={norm}"]
    results.starts = starts(asked, run, line, options.threads, options.rounds)
    return results


def processes(options: Options) -> Results:
    """Measure several processes that train one model."""
    results = begun(options)
    base, configs, results.settings = composed(options)
    prepared(base, options)
    results.timings = times_together(
        configs, options.processes, torch.get_num_threads(), options.updates, options.rounds
    )
    return results


def scaling(options: Options) -> Results:
    """Measure what grows with the corpus, of the commands as a user starts them."""
    check_memory()
    results = begun(options)
    model = (*SMALL, "tokenizer.vocab_size=200") if options.size == "small" else PEERS
    asked = [*model, *options.set]
    if options.threads is not None:
        asked = [*asked, f"trainer.threads={options.threads}"]
    results.settings = asked
    results.scales = scales(options.pairs, asked, options.updates, options.rounds)
    return results


def runs(options: Options) -> Results:
    """Measure the models of runs side by side, and write the speed of each into its folder."""
    results = begun(options)
    results.training = training_speeds_of(options.runs, options.updates, options.rounds)
    return results


def overrides(options: Options) -> list[str]:
    """Return the settings that the options ask for, as overrides of train.py."""
    corpus = f"data={options.data}"
    return [corpus, *preset(compose_here([corpus]).data.origin, options.size), *options.set]


def composed(options: Options) -> tuple[Config, dict[str, Config], list[str]]:
    """Return the settings of norm=none, those of each norm asked for, and their overrides.

    ValueError for settings that the rival does not have.
    """
    asked = overrides(options)
    norms = dict.fromkeys(options.norms.split(","))
    configs = {norm: compose_here([*asked, f"norm={norm}"]) for norm in norms}
    base = compose_here([*asked, "norm=none"])
    check(base)
    return base, configs, asked


def prepared(base: Config, options: Options) -> Workload:
    """Return the corpus and the parts of it that the options ask for."""
    return workload(base, getattr(options, "updates", 1), getattr(options, "sentences", 0))


def everything(options: Options) -> Results:
    """Measure everything; after each part the numbers are written, since a later one may fail."""
    check_memory()
    results = layers(options)
    for part in (train, decode, memory, startup):
        write(results, options)
        results.add(part(options))
    return results


COMMANDS: dict[str, Callable[[Options], Results]] = {
    "layers": layers,
    "train": train,
    "decode": decode,
    "memory": memory,
    "startup": startup,
    "processes": processes,
    "scaling": scaling,
    "runs": runs,
    "all": everything,
}
"""What each command of the script does."""
