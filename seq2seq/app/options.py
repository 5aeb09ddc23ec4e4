"""Options of the commands that translate with a trained run."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..config import (
    Attention,
    DecodeConfig,
    Device,
    Precision,
    Sampling,
    TrainerConfig,
    length_limit,
)
from ..config.checks import Range
from .arguments import one_of, setting, whole, wrong

if TYPE_CHECKING:
    from rich.console import Console

    from ..translation.lines import Session


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the search, each of which replaces the run's own setting."""
    search = add_search_group(parser)
    search.add_argument(
        "--batch-size",
        type=setting(DecodeConfig, "batch_size"),
        metavar="N",
        help="sentences translated together (default: as many as have 320 hypotheses)",
    )
    search.add_argument(
        "--shortlist",
        type=setting(DecodeConfig, "shortlist"),
        metavar="N",
        help="faster, not exact: consider only the N likeliest target pieces of each source piece, "
        "such as 50, and the most frequent pieces; 0: all",
    )
    search.add_argument(
        "--replace-unk",
        action="store_true",
        help="replace <unk> by the source word with the largest attention weight",
    )
    add_rules(search)
    add_sampling_options(parser)
    add_jobs(add_hardware_options(parser))


def add_search_group(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options that every search has; return their group."""
    search = parser.add_argument_group("search", "without an option, the run's own setting holds")
    search.add_argument(
        "--beam",
        type=setting(DecodeConfig, "beam_size"),
        metavar="N",
        help="hypotheses per sentence; 1: greedy",
    )
    search.add_argument(
        "--length-penalty",
        type=setting(DecodeConfig, "length_penalty"),
        metavar="X",
        help="exponent of the length that divides a hypothesis' log-probability",
    )
    search.add_argument(
        "--max-length",
        type=length_rule,
        metavar="Ax+B",
        help="longest translation in pieces, for a source of x pieces: 2x+10; or a number",
    )
    return search


def add_rules(search: argparse._ArgumentGroup) -> None:
    """Add the options that say what a translation may be."""
    search.add_argument(
        "--min-length",
        type=setting(DecodeConfig, "min_length"),
        metavar="N",
        help="shortest translation in pieces",
    )
    search.add_argument(
        "--no-repeat-ngram",
        type=setting(DecodeConfig, "no_repeat_ngram"),
        metavar="N",
        help="no N pieces in a row occur twice in a translation; 0: no such rule",
    )


def length_rule(typed: str) -> str:
    """Return a rule for the longest translation, Ax+B."""
    try:
        length_limit(typed)
    except ValueError as error:
        raise wrong(typed, str(error).partition(": expected ")[2]) from error
    return typed


def add_hardware_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options that say where and how to compute; return their group."""
    hardware = parser.add_argument_group("hardware")
    precisions, devices = [p.value for p in Precision], [d.value for d in Device]
    hardware.add_argument(
        "--precision",
        type=one_of(precisions),
        metavar=f"{{{','.join(precisions)}}}",
        help="type of the matrix products (default: the run's own)",
    )
    hardware.add_argument(
        "--device",
        type=one_of(devices),
        default="auto",
        metavar=f"{{{','.join(devices)}}}",
        help="default: auto",
    )
    add_threads(hardware)
    return hardware


def add_threads(group: argparse._ActionsContainer) -> None:
    """Add the option that limits the CPU threads."""
    kind = setting(TrainerConfig, "threads")
    group.add_argument("--threads", type=kind, metavar="N", help="number of CPU threads")


def add_jobs(group: argparse._ActionsContainer) -> None:
    """Add the option that divides the lines among processes."""
    group.add_argument(
        "--jobs",
        type=whole(Range(at_least=1)),
        default=1,
        metavar="N",
        help="number of processes that share the lines and the CPU threads (default: 1)",
    )


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that draw translations at random."""
    group = parser.add_argument_group("sampling", "translations at random instead of the best ones")
    group.add_argument(
        "--sample",
        action="store_true",
        help="sample each piece with the model's probability; there is no beam",
    )
    group.add_argument(
        "--temperature",
        type=setting(Sampling, "temperature"),
        metavar="T",
        help="sample with probability proportional to p^(1/T) (default: 1)",
    )
    group.add_argument(
        "--top-k",
        type=setting(Sampling, "top_k"),
        metavar="K",
        help="sample among the K likeliest pieces; 0: all, the default",
    )
    group.add_argument(
        "--seed",
        type=setting(Sampling, "seed"),
        metavar="S",
        help="the same seed samples the same translations of the same lines (default: 1)",
    )


def shown(value: float) -> str:
    """Return a number with all its digits, and a whole one without a point."""
    return str(value).removesuffix(".0")


def sampling(options: argparse.Namespace) -> Sampling | None:
    """Return how to draw translations; None for a search. ValueError for options at odds."""
    named = {"temperature": options.temperature, "top_k": options.top_k, "seed": options.seed}
    given = {key: value for key, value in named.items() if value is not None}
    if not options.sample:
        for key, value in given.items():
            raise ValueError(
                f"--{key.replace('_', '-')} {shown(value)}: has an effect only with --sample, which"
                " draws at random; add that, or leave this out"
            )
        return None
    if options.beam not in (None, 1):
        raise ValueError(f"--beam {options.beam}: with --sample there is no beam; leave it out")
    return Sampling(**given)


def search_of(folder: str, options: argparse.Namespace) -> tuple[DecodeConfig, Sampling | None]:
    """Return a run's search, as changed by the options, and how to draw; None: not at random."""
    from ..runs.folder import Run

    config = Run.open(folder).config()
    if options.replace_unk and config.model.attention is Attention.none:
        raise ValueError(
            f"--replace-unk: {folder} has model.attention=none, and no word is attended to most;"
            " leave this out"
        )
    return with_options(config.decode, options), sampling(options)


def penalty_remark(
    decode: DecodeConfig, drawn: Sampling | None, options: argparse.Namespace
) -> str:
    """Return a line where a length penalty was asked for, and a single hypothesis needs none."""
    if options.length_penalty is None or drawn is not None or decode.beam_size > 1:
        return ""
    return (
        f"--length-penalty {shown(options.length_penalty)}: chooses nothing with a beam of 1"
        " (--beam N makes it wider)"
    )


def open_translator(folder: str, options: argparse.Namespace) -> "Session":
    """Return a run's best model and its search, as changed by the options."""
    decode, drawn = search_of(folder, options)
    session = open_run(folder, options)
    from ..runs.folder import Run
    from ..translation.loading import load_shortlist

    shortlist = load_shortlist(decode, Run.open(folder), session.tokenizers)
    return replace(session, decode=decode, sampling=drawn, shortlist=shortlist)


def with_options(decode: DecodeConfig, options: argparse.Namespace) -> DecodeConfig:
    """Return a run's search as changed by the options; ValueError, in their names, if at odds."""
    named = {
        "beam_size": ("--beam", options.beam),
        "batch_size": ("--batch-size", options.batch_size),
        "length_penalty": ("--length-penalty", options.length_penalty),
        "max_length": ("--max-length", options.max_length),
        "min_length": ("--min-length", options.min_length),
        "no_repeat_ngram": ("--no-repeat-ngram", options.no_repeat_ngram),
        "shortlist": ("--shortlist", options.shortlist),
        "replace_unk": ("--replace-unk", options.replace_unk or None),
    }
    given = {key: value for key, (_, value) in named.items() if value is not None}
    try:
        return replace(decode, **given)
    except ValueError as error:
        message = str(error)
        for key, value in given.items():
            message = message.replace(f"decode.{key}={value}", f"{named[key][0]} {value}")
        raise ValueError(message) from error


def open_run(folder: str, options: argparse.Namespace) -> "Session":
    """Return a run's best model on the device asked for, with the search of the run."""
    from ..runs.folder import Run

    run = Run.open(folder)
    config = run.config()
    from ..device import choose_device, set_threads  # with torch, for which no mistake waits
    from ..translation.lines import Session
    from ..translation.loading import load_translator

    set_threads(options.threads)
    precision = (
        config.trainer.precision if options.precision is None else Precision[options.precision]
    )
    model, tokenizers = load_translator(run, choose_device(Device[options.device], "--device "))
    return Session(model, tokenizers, config.decode, precision)


def open_ensemble(folders: Sequence[str], options: argparse.Namespace) -> "Session":
    """Return the best models of several runs as one, with the search of the first run.

    ValueError if their tokenizers differ.
    """
    first, others = open_translator(folders[0], options), list["Session"]()
    for folder in folders[1:]:
        search_of(folder, options)  # refuses what the run cannot do
        others.append(other := open_run(folder, options))
        if other.tokenizers.identity != first.tokenizers.identity:
            raise ValueError(
                f"{folder}: has other tokenizers than {folders[0]}; expected runs of one corpus"
                " with the same tokenizer settings"
            )
    return replace(
        first,
        others=[other.model for other in others],
        remark=lambda said: print(said, file=sys.stderr),
    )


def console(stderr: bool = False) -> "Console":
    """Return the console for tables: as wide as the terminal, or wide for a file or a pipe.

    Text is shown as it is: brackets are no markup, :names: no pictures.
    """
    from rich.console import Console

    width = None if (sys.stderr if stderr else sys.stdout).isatty() else 200
    return Console(width=width, stderr=stderr, markup=False, emoji=False, highlight=False)
