"""Options of the commands that translate with a trained run."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NoReturn

from ..config import Device, Precision
from ..shown import escaped, shortened
from .foreign import ours

if TYPE_CHECKING:
    from rich.console import Console

    from ..translation.lines import Session
    from ..translation.sampling import Sampling


class Parser(argparse.ArgumentParser):
    """A parser whose errors are safe to show and explain what other toolkits call an option."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; exit with code 2 where an unknown option has another name here."""
        given = sys.argv[1:] if args is None else list(args)
        for option in takewhile(lambda word: word != "--", given):
            known = option.partition("=")[0] in self._option_string_actions
            if not known and (found := ours(option)):
                self.error(f"{option}: not an option here; instead: {found}")
        return super().parse_known_args(given, namespace)

    def error(self, message: str) -> NoReturn:
        """Exit with code 2 after the usage and the message."""
        super().error(shortened(escaped(message)))


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of a command line whose --help shows the description as it is written.

    Options have to be written in full: a part of another option's name is no option.
    """
    return Parser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
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
        "--max-length",
        metavar="Ax+B",
        help="longest translation in pieces, for a source of x pieces: 2x+10; or a number",
    )
    search.add_argument(
        "--min-length", type=int, metavar="N", help="shortest translation in pieces"
    )
    search.add_argument(
        "--no-repeat-ngram",
        type=int,
        metavar="N",
        help="no N pieces in a row occur twice in a translation; 0: no such rule",
    )
    search.add_argument(
        "--replace-unk",
        action="store_true",
        help="replace <unk> by the most attended source word",
    )
    add_sampling_options(parser)
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


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that draw translations at random."""
    group = parser.add_argument_group("sampling", "translations at random instead of the best ones")
    group.add_argument(
        "--sample",
        action="store_true",
        help="draw each piece with the model's probability; there is no beam",
    )
    group.add_argument(
        "--temperature",
        type=float,
        metavar="T",
        help="draw with probability proportional to p^(1/T) (default: 1)",
    )
    group.add_argument(
        "--top-k", type=int, metavar="K", help="draw among the K likeliest pieces (default: all)"
    )
    group.add_argument(
        "--seed",
        type=int,
        metavar="S",
        help="the same seed draws the same translations of the same lines (default: 1)",
    )


def sampling(options: argparse.Namespace) -> "Sampling | None":
    """Return how to draw translations; None for a search. ValueError for options at odds."""
    from ..translation.sampling import Sampling

    named = {"temperature": options.temperature, "top_k": options.top_k, "seed": options.seed}
    given = {key: value for key, value in named.items() if value is not None}
    if not options.sample:
        for key, value in given.items():
            raise ValueError(f"--{key.replace('_', '-')} {value}: has an effect only with --sample")
        return None
    if options.beam not in (None, 1):
        raise ValueError(f"--beam {options.beam}: with --sample there is no beam; leave it out")
    return Sampling(**given)


def open_translator(folder: str, options: argparse.Namespace) -> "Session":
    """Return a run's best model and its search, as changed by the options."""
    from ..runs.folder import Run

    config = Run.open(folder).config()
    named = {
        "beam_size": options.beam,
        "batch_size": options.batch_size,
        "length_penalty": options.length_penalty,
        "max_length": options.max_length,
        "min_length": options.min_length,
        "no_repeat_ngram": options.no_repeat_ngram,
        "replace_unk": options.replace_unk or None,
    }
    decode = replace(
        config.decode, **{key: value for key, value in named.items() if value is not None}
    )
    drawn = sampling(options)
    return replace(open_run(folder, options), decode=decode, sampling=drawn)


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
    model, tokenizers = load_translator(run, choose_device(Device[options.device]))
    return Session(model, tokenizers, config.decode, precision)


def open_ensemble(folders: Sequence[str], options: argparse.Namespace) -> "Session":
    """Return the best models of several runs as one, with the search of the first run.

    ValueError if their tokenizers differ.
    """
    first, *others = (open_translator(folder, options) for folder in folders)
    for folder, other in zip(folders[1:], others, strict=True):
        if other.tokenizers.identity != first.tokenizers.identity:
            raise ValueError(
                f"{folder}: has other tokenizers than {folders[0]}; expected runs of one corpus"
                " with the same tokenizer settings"
            )
    return replace(first, others=[other.model for other in others])


def console(stderr: bool = False) -> "Console":
    """Return the console for tables: as wide as the terminal, or wide for a file or a pipe.

    Text is shown as it is: brackets are no markup, :names: no pictures.
    """
    from rich.console import Console

    width = None if (sys.stderr if stderr else sys.stdout).isatty() else 200
    return Console(width=width, stderr=stderr, markup=False, emoji=False, highlight=False)
