"""Measure speed and memory, compared with torch.nn.LSTM and a translator written on it.

    python scripts/benchmark.py
    python scripts/benchmark.py train --data multi30k_de_en --json train.json
    python scripts/benchmark.py decode --help

Contestants run in turn in one process. A number is the median over rounds, and a ratio the median
of the ratios to the first row of the same round. Compiling kernels, preparing text and warming up
are in none of the times. Without a command all of them run. Where the project is installed,
`python -m seq2seq.benchmark` is the same command.
"""

import argparse
import sys
from functools import partial

from ..app.arguments import one_of, output_file, parser, some_of, whole
from ..app.commands import command
from ..app.options import add_threads
from ..config import Device, Precision
from ..config.checks import Range
from .options import completed, default

SIZE_NAMES = ("small", "full")
PRECISIONS, DEVICES = ([kind.value for kind in kinds] for kinds in (Precision, Device))
at_least_one = whole(Range(at_least=1))
ABOUT = {
    "layers": """Measure one recurrent layer, compared with torch.nn's.

ms is a time, and the ratio compares times: 1.2 is 20% slower than the first row. products: the part
of a row's time that its matrix products alone would take. Below the tables of several sizes are
their geometric means.""",
    "train": """Measure parameter updates of whole translators, in target tokens a second.

The first row is a translator on torch.nn.LSTM as one writes it in an hour, with sentences of
similar lengths in a batch. Ours run the training loop's own step, on batches of any length, and
sorted on the rival's. The ratio compares speeds: 1.2 is 20% faster than the first row. Padding is
not counted.""",
    "decode": """Measure greedy and beam search, in sentences a second.

The first row is a translator on torch.nn.LSTM that has the weights of norm=none and gives the same
translations. All are trained a little beforehand and kept in outputs/benchmark. The ratio compares
speeds: 1.2 is 20% faster than the first row.""",
    "memory": """Measure memory, each contestant in a process of its own.

Of layers: the largest growth of the process in training, without parameters. Of translators: the
largest resident memory of the whole process, Python and libraries included; imports have rows of
their own.""",
    "startup": """Measure start-up: seconds from the start of a process, as a user starts it.

The first update of a prepared corpus, the first translation by a trained run, train.py --help, an
error, and compare.py on three runs.""",
    "processes": """Measure parameter updates of several processes that train one model.

The first row is one process that has all threads. By DDP: with torch's DistributedDataParallel in
place of our own sums of gradients. Both run during the backward pass. The ratio compares times: 1.2
is 20% slower than the first row.""",
    "scaling": """Measure what grows with the corpus: made-up ones of several sizes.

Seconds and memory to prepare each, seconds from the start of a training of the prepared corpus to
its first update, milliseconds an update, and memory of the training, of all processes together.
Five million pairs need 4 GB of disk, in outputs/benchmark, and minutes.""",
    "runs": """Measure the training of runs side by side, in target tokens a second.

Runs that were trained at different times had a machine of different speeds. Here their models take
turns, and speed.json in each run's folder says how fast it was. compare.py then compares times at
these speeds. Runs that differ in nothing but seed and learning rate are measured once.""",
    "all": "Measure everything but processes, scaling and runs, with the defaults of each command.",
}
"""What --help of each command explains."""


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Return the checked options of the command line; a command is put in where none is given.

    ValueError for an option that has no effect.
    """
    whole_line = parser(__doc__)
    commands = whole_line.add_subparsers(dest="what", metavar="COMMAND")
    for name, about in ABOUT.items():
        one = commands.add_parser(
            name,
            description=about,
            help=about.partition("\n")[0].removesuffix("."),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        add_options(one, name)
        one.set_defaults(profile=None)
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["all", *arguments]
    return completed(whole_line.parse_args(arguments))


def explained(command: str, option: str, words: str) -> str:
    """Return the help of an option of a command, with its default."""
    sizes = ["full"] if command == "runs" else SIZE_NAMES
    values = {
        size: ",".join(map(str, value)) if isinstance(value, list) else str(value)
        for size in sizes
        if (value := default(command, option, size)) is not None
    }
    small = values.get("small", values["full"])
    more = f"; with --size small {small}" * (small != values["full"])
    return f"{words} (default: {values['full']}{more})"


def add_options(command: argparse.ArgumentParser, name: str) -> None:
    """Add the options of a command, without their defaults: those of all, and its own."""
    add = command.add_argument
    if name == "runs":
        add("runs", nargs="+", metavar="RUN", help="a run's folder")
    else:
        add(
            "--size",
            type=one_of(SIZE_NAMES),
            metavar=f"{{{','.join(SIZE_NAMES)}}}",
            help="small takes seconds, for a first look",
        )
    add_threads(command)
    add(
        "--json",
        type=output_file,
        metavar="FILE",
        help="write the numbers and what they depend on there",
    )
    if name != "memory":
        add_number(command, name, "--rounds", "rounds")
    if name in ("layers", "train", "decode", "all"):
        add("--figure", type=output_file, metavar="PNG", help="draw the ratios there")
    if name == "layers":
        add_gpu(command)
    if name in ("layers", "all"):
        add(
            "--compile",
            action="store_true",
            help="torch.compile of the layers' reference, too; compiling it takes minutes",
        )
    if name not in ("layers", "runs"):
        add("--set", nargs="+", metavar="KEY=VALUE", help="settings as for train.py")
    if name == "scaling":
        add_sizes(command)
    elif name == "runs":
        add_number(command, name, "--updates", "updates in each turn")
    elif name != "layers":
        add_translators(command, name)
        add_amounts(command, name)


def add_number(
    command: argparse.ArgumentParser, name: str, option: str, words: str, least: int = 1
) -> None:
    """Add an option that is a whole number."""
    command.add_argument(
        option,
        type=whole(Range(at_least=least)),
        metavar="N",
        help=explained(name, option.removeprefix("--"), words),
    )


def add_gpu(command: argparse.ArgumentParser) -> None:
    """Add the options of layers on a GPU."""
    words = "a GPU checks all kernels, then times LSTMs with cuDNN's; --json is written row by row"
    command.add_argument(
        "--device",
        type=one_of(DEVICES),
        metavar=f"{{{','.join(DEVICES)}}}",
        help=explained("layers", "device", words),
    )
    words = "on a GPU nothing new begins after so many minutes"
    add_number(command, "layers", "--minutes", words)


def add_sizes(command: argparse.ArgumentParser) -> None:
    """Add the options of the command that measures corpora of several sizes."""
    command.add_argument(
        "--pairs",
        type=lambda text: list(dict.fromkeys(map(at_least_one, text.split(",")))),
        metavar="NUMBERS",
        help=explained("scaling", "pairs", "sizes, with commas"),
    )
    add_number(command, "scaling", "--updates", "updates of each start", least=2)


def add_translators(command: argparse.ArgumentParser, name: str) -> None:
    """Add the options of a command that measures translators."""
    add = command.add_argument
    words = "corpus of configs/data"
    add(
        "--data",
        metavar="NAME",
        help=f"{explained(name, 'data', words)}; a published one has the sizes that"
        " other toolkits were measured with: 8,000 joint pieces, 256, 512, 64 sentences a batch",
    )
    what = "the first one is started" if name == "startup" else "with commas"
    add("--norms", metavar="NAMES", help=explained(name, "norms", f"norms, {what}"))
    if name not in ("startup", "processes"):
        add("--feeding", action="store_true", help="all translators with input feeding, too")
    if name in ("train", "decode", "all"):
        words = "types of the matrix products, with commas: fp32 or bf16"
        add(
            "--precisions",
            type=some_of(PRECISIONS),
            metavar="NAMES",
            help=explained(name, "precisions", words),
        )
    if name in ("train", "decode"):
        add(
            "--profile",
            metavar="NAME",
            help="a profile by module instead: of the rival (plain) or of ours with this norm",
        )


def add_amounts(command: argparse.ArgumentParser, name: str) -> None:
    """Add the options of how much a command trains and translates."""
    if name == "processes":
        add_number(command, name, "--processes", "processes that train together", least=2)
    if name in ("train", "memory", "processes", "all"):
        add_number(command, name, "--updates", "updates in each turn")
    if name in ("decode", "memory", "all"):
        add_number(command, name, "--sentences", "lines of valid")
    if name not in ("train", "processes"):
        words = "updates that translators are trained for beforehand"
        add_number(command, name, "--trained", words)


def main() -> None:
    """Measure what the command line asks for, print it, and write it to files on request.

    The numbers come first: they are printed though they cannot be written, and are in the file
    though nobody reads what is printed, or they cannot be drawn.
    """
    options = parsed(sys.argv[1:])
    from . import commands  # with torch, which --help need not wait for

    results = commands.COMMANDS[options.what](options)
    try:
        commands.write(results, options)
    finally:
        results.show()
    if getattr(options, "figure", None) is not None:
        results.draw(options.figure)


benchmark = partial(command, "command_line", __package__)
"""Run `main` as a command: exit codes, UTF-8, errors of one line."""
