"""Options of the commands that translate with a trained run."""

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from ..config import Device, Precision

if TYPE_CHECKING:
    from rich.console import Console

    from ..translation.lines import Session


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of a command line whose --help shows the description as it is written."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the search, each of which replaces the run's own setting."""
    search = parser.add_argument_group("search", "without an option, the run's own setting holds")
    search.add_argument("--beam", type=int, metavar="N", help="hypotheses per sentence; 1: greedy")
    search.add_argument("--batch-size", type=int, metavar="N", help="sentences decoded together")
    search.add_argument(
        "--length-penalty",
        type=float,
        metavar="X",
        help="exponent of the length that divides a hypothesis' log-probability",
    )
    search.add_argument(
        "--replace-unk",
        action="store_true",
        help="replace <unk> by the most attended source word",
    )
    add_hardware_options(parser)


def add_hardware_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where and how to compute."""
    hardware = parser.add_argument_group("hardware")
    hardware.add_argument(
        "--precision",
        choices=[p.value for p in Precision],
        help="type of the matrix products (default: the run's own)",
    )
    hardware.add_argument(
        "--device", choices=[d.value for d in Device], default="auto", help="default: auto"
    )
    hardware.add_argument("--threads", type=int, metavar="N", help="number of CPU threads")


def open_translator(folder: str, options: argparse.Namespace) -> "Session":
    """Return a run's best model and its search, as changed by the options."""
    from ..runs.folder import Run

    config = Run.open(folder).config()
    named = {
        "beam_size": options.beam,
        "batch_size": options.batch_size,
        "length_penalty": options.length_penalty,
        "replace_unk": options.replace_unk or None,
    }
    decode = replace(
        config.decode, **{key: value for key, value in named.items() if value is not None}
    )
    return replace(open_run(folder, options), decode=decode)


def open_run(folder: str, options: argparse.Namespace) -> "Session":
    """Return a run's best model on the device asked for, with the search of the run."""
    from ..device import choose_device, set_threads
    from ..runs.folder import Run
    from ..translation.lines import Session
    from ..translation.loading import load_translator

    set_threads(options.threads)
    run = Run.open(folder)
    config = run.config()
    precision = (
        config.trainer.precision if options.precision is None else Precision[options.precision]
    )
    model, tokenizers = load_translator(run, choose_device(Device[options.device]))
    return Session(model, tokenizers, config.decode, precision)


def console(stderr: bool = False) -> "Console":
    """Return the console for tables: as wide as the terminal, or wide for a file or a pipe."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(width=None if stream.isatty() else 200, stderr=stderr)
