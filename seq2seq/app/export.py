"""Export a trained translator: ONNX files and a program of 60 lines, without this package or torch.

    python scripts/export.py outputs/CORPUS/RUN --out translator
    python translator/translate.py < input.txt > output.txt

The folder has the encoder and a step of the decoder as ONNX, the tokenizers, the settings of the
search, and translate.py, which needs onnxruntime, sentencepiece and numpy alone. Before it is
written, test sentences are translated with it and with the run, in float32: a difference is an
error (exit code 1), and then there is no folder. Needs the extra onnx: pip install 'seq2seq[onnx]'.
Where the project is installed, `seq2seq-export` is the same command.
"""

import argparse
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import DecodeConfig
from ..config.checks import Range
from ..errors import DataError
from ..files import exists, new_folder
from ..shown import are, counted, escaped
from .arguments import output_folder, parser, whole
from .options import add_search_group, add_threads, with_options

if TYPE_CHECKING:
    from ..config import DataConfig
    from ..export.check import Comparison
    from ..translation.lines import Session

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""What the extra onnx installs."""
SHOWN = 3
"""Most differences that are printed."""


def options() -> argparse.Namespace:
    """Parse the command line."""
    command = parser(__doc__)
    command.add_argument("run", metavar="RUN", help="the folder of a run")
    command.add_argument(
        "--out",
        required=True,
        type=output_folder,
        metavar="DIR",
        help="the folder to write, a new one",
    )
    command.add_argument(
        "--int8",
        action="store_true",
        help="also write the networks in 8 bits, and print what that changes",
    )
    search = add_search_group(command)
    search.add_argument(
        "--plain-search",
        action="store_true",
        help="leave out what the program's search does not have: a shortest length, a rule on "
        "repeated pieces, a shortlist, and the replacement of <unk>",
    )
    check = command.add_argument_group("check")
    check.add_argument(
        "--check",
        type=whole(Range(at_least=0)),
        default=200,
        metavar="N",
        help="compare the translations of the first N sentences; 0: no check (default: 200)",
    )
    check.add_argument(
        "--source",
        metavar="FILE",
        help="sentences to compare, by line (default: the run's test set; without one, valid)",
    )
    add_threads(check)
    asked = command.parse_args()
    if asked.source is not None and not asked.check:
        command.error(
            f"--check 0: compares nothing, so that --source {asked.source} has no effect; leave one"
            " of them out"
        )
    return asked


MISSING_RULES = ("min_length", "no_repeat_ngram", "shortlist", "replace_unk")
"""Settings of a search that the program does not have."""


def check_search(decode: DecodeConfig) -> None:
    """Raise ValueError for a search that the program cannot make."""
    for name in MISSING_RULES:
        if value := getattr(decode, name):
            raise ValueError(
                f"decode.{name}={str(value).lower()}: the exported program has no such rule;"
                " expected a run without it, or --plain-search, which leaves it out"
            )


def exported_search(decode: DecodeConfig, asked: argparse.Namespace) -> DecodeConfig:
    """Return a run's search as changed by the options."""
    leaves_out = asked.plain_search
    asked.min_length = asked.no_repeat_ngram = asked.shortlist = 0 if leaves_out else None
    asked.batch_size, asked.replace_unk = None, False
    found = with_options(decode, asked)
    found.replace_unk = found.replace_unk and not leaves_out
    return found


Sentences = tuple[str, list[str], list[str] | None]
"""Where the sentences to compare come from, the sentences, and their references."""


def sentences(data: "DataConfig", asked: argparse.Namespace) -> Sentences:
    """Return the sentences to compare; DataError if there are none."""
    from ..data.corpora import read_parallel, read_split, splits

    if not asked.check:
        return "", [], None
    if asked.source is not None:
        return asked.source, read_parallel([asked.source])[0][: asked.check], None
    name = "test" if "test" in splits(data) else "valid"
    try:
        source, reference = read_split(data, name)
    except DataError as error:
        raise DataError(
            f"{error}; --source FILE compares other sentences, --check 0 none"
        ) from error
    return name, source[: asked.check], reference[: asked.check]


def same_as_run(found: "Comparison", place: str = "") -> str:
    """Return in words how many translations are the run's."""
    total = len(found.texts)
    verb = are(1 if total == 1 else found.same)
    return f"{found.same} of {counted(total, 'translation')}{place} {verb} the run's"


def report(found: "Comparison", name: str) -> None:
    """Print how many translations agree; RuntimeError if some do not."""
    beam = "greedy" if found.beam == 1 else f"beam {found.beam}"
    tied = "is a tie" if found.ties == 1 else "are ties"
    ties = f", {found.ties} more {tied}" if found.ties else ""
    print(
        f"{beam}: {same_as_run(found, f' of {name}')}{ties};"
        f" largest difference of a log-probability {found.difference:.1e}"
    )
    for line, expected, other in found.wrong[:SHOWN]:
        print(f"  {escaped(line)}\n    run:    {escaped(expected)}\n    folder: {escaped(other)}")
    if found.wrong:
        raise RuntimeError(
            f"{counted(len(found.wrong), 'translation')} {are(len(found.wrong))} not the run's;"
            " nothing is written (--check 0 writes all the same)"
        )


def report_int8(
    folder: Path, found: "Comparison", references: list[str] | None, data: "DataConfig"
) -> None:
    """Print the sizes of the networks, and what 8 bits change."""
    from ..export.networks import NETWORKS
    from ..export.quantization import INT8

    sizes = [
        sum((folder / f"{name}{kind}.onnx").stat().st_size for name in NETWORKS) / 1e6
        for kind in ("", INT8)
    ]
    print(f"8 bits: {sizes[1]:.1f} MB instead of {sizes[0]:.1f} MB")
    if not found.texts:
        return
    print(f"8 bits, beam {found.beam}: {same_as_run(found)}")
    if references is not None:
        from ..translation.scores import score

        scores = [
            score(texts, references, data.splits_for_bleu).bleu
            for texts in (found.expected, found.texts)
        ]
        print(f"8 bits, beam {found.beam}: BLEU {scores[1]:.2f}, in float32 {scores[0]:.2f}")


def check(
    folder: Path, session: "Session", data: "DataConfig", compares: Sentences, int8: bool
) -> None:
    """Compare translations with the run's, and print what was compared."""
    name, lines, references = compares
    if not lines:
        print("not checked (--check 0)")
    from ..export.check import Comparison, compared

    beam = session.decode.beam_size
    for size in dict.fromkeys((1, beam)) if lines else ():
        report(compared(session, folder, lines, size), name)
    if int8:
        from ..export.quantization import INT8

        found = compared(session, folder, lines, beam, INT8) if lines else Comparison(beam)
        report_int8(folder, found, references, data)


def main() -> None:
    """Parse the command line, load the run, export, compare."""
    asked = options()  # first: --help needs no package
    from ..runs.folder import Run

    run = Run.open(asked.run)
    config = run.config()
    decode = exported_search(config.decode, asked)
    check_search(decode)
    if exists(asked.out):
        raise ValueError(f"--out {asked.out}: exists already; expected a new folder")
    compares = sentences(config.data, asked)  # before the minute that an export takes
    for package in PACKAGES:
        importlib.import_module(package)
    from ..config import Device, Precision
    from ..device import choose_device, set_threads
    from ..export.folder import write_folder
    from ..translation.lines import Session
    from ..translation.loading import load_translator

    set_threads(asked.threads)
    model, tokenizers = load_translator(run, choose_device(Device.cpu, ""))
    session = Session(model, tokenizers, decode, Precision.fp32)
    print("exporting takes about a minute", file=sys.stderr)
    with new_folder(asked.out, ".exporting-") as folder:
        write_folder(folder, run, model, tokenizers, decode)
        if asked.int8:
            from ..export.quantization import quantize

            quantize(folder)
        check(folder, session, config.data, compares, asked.int8)
    print(f"{asked.out}: written; its README.md says how to use it")
