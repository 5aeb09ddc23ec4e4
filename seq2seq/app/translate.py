"""Translate lines with a trained run: a line in, a line out; at a terminal, interactive.

    python scripts/translate.py outputs/CORPUS/RUN < input.txt > output.txt

Where the project is installed, `seq2seq-translate` is the same command.
"""

import argparse
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING

from ..config.checks import Range
from ..shown import escaped, json_line
from .arguments import output_file, parser, whole
from .jobs import Chunk, by_jobs, check_jobs, chunks_of
from .options import add_search_options, open_ensemble, penalty_remark, search_of

if TYPE_CHECKING:
    from ..translation.lines import Session, Translation

CHUNK_LINES = 2000
"""Lines that are read and translated together: enough to sort them by length into full batches."""


def options() -> argparse.Namespace:
    """Parse the command line."""
    command = parser(__doc__)
    command.add_argument("run", nargs="?", metavar="RUN", help="the folder of a run")
    command.add_argument(
        "--ensemble",
        nargs="+",
        metavar="RUN",
        help="several runs instead of one: the mean of their probabilities",
    )
    add_search_options(command)
    output = command.add_argument_group("output")
    output.add_argument(
        "--n-best",
        type=whole(Range(at_least=1)),
        default=1,
        metavar="N",
        help="N translations per line, best first, one per output line; missing ones are empty "
        "lines; N is at most the beam, or the number of samples with --sample (default: 1)",
    )
    form = output.add_mutually_exclusive_group()
    form.add_argument(
        "--json-lines",
        action="store_true",
        help="print a JSON object per line: its source, and text, score, log-probability, length, "
        "pieces and alignment of each translation",
    )
    form.add_argument(
        "--scores",
        action="store_true",
        help="print a score and a tab before each translation: its log-probability in nats, "
        "divided by its length to the power of the length penalty",
    )
    output.add_argument(
        "--attention",
        type=output_file,
        metavar="PNG",
        help="draw the attention map of the first line that has words",
    )
    asked = command.parse_args()
    if (asked.run is None) == (asked.ensemble is None):
        found = "no run" if asked.run is None else f"{asked.run}: a run besides --ensemble"
        command.error(f"{found}; expected the folder of a run, or --ensemble RUN RUN ...")
    return asked


def asked_for() -> Iterator[str]:
    """Yield the sentences that a person types at a terminal, until the end of input."""
    with suppress(ImportError):
        import readline  # noqa: F401  (arrow keys and history)
    print("A sentence and Enter translates it; Ctrl-D ends.", file=sys.stderr)
    with suppress(EOFError):
        while True:
            yield input("> " if sys.stdout.isatty() else "")
    print(file=sys.stderr)


def as_json(number: int, source: str, translations: "list[Translation]") -> str:
    """Return a line and its translations as a JSON object; docs/commands.md explains it."""
    found = [
        {
            "text": t.text,
            "score": t.score,
            "log_probability": t.log_probability,
            "length": t.length,
            "pieces": t.tgt_pieces,
            "alignment": t.alignment,
        }
        for t in translations
    ]
    src_pieces = translations[0].src_pieces
    return json_line(
        {"line": number, "source": source, "source_pieces": src_pieces, "translations": found}
    )


def shown(
    translations: "list[Translation]", n_best: int, scores: bool, is_seen: bool
) -> Iterator[str]:
    """Yield n_best lines, each after its score on request; missing translations are empty lines."""
    missing = n_best - len(translations)
    found = [(t.score, t.text) for t in translations] + [(-math.inf, "")] * missing
    for score, text in found:
        seen = escaped(text) if is_seen else text
        yield f"{score:.4f}\t{seen}" if scores else seen


def text_of(
    found: "list[list[Translation]]", chunk: Chunk, asked: argparse.Namespace, is_seen: bool
) -> str:
    """Return the output for a chunk; is_seen: a terminal shows it."""
    lines = list[str]()
    for number, (source, translations) in enumerate(zip(chunk.lines, found, strict=True)):
        if asked.json_lines:
            lines.append(as_json(chunk.first + number, source, translations))
        else:
            lines += shown(translations, asked.n_best, asked.scores, is_seen)
    return "".join(line + "\n" for line in lines)


def translate(session: "Session", lines: Iterable[str], asked: argparse.Namespace) -> None:
    """Translate lines, chunk by chunk, to standard output."""
    draws, is_seen = asked.attention is not None, sys.stdout.isatty()
    for chunk in chunks_of(lines, 1 if sys.stdin.isatty() or draws else CHUNK_LINES):
        found = session.translate(chunk.lines, asked.n_best, attention=draws or asked.json_lines)
        if draws and found[0][0].src_pieces:
            session.draw_attention(found[0][0], asked.attention)
            draws = False
        print(text_of(found, chunk, asked, is_seen), end="", flush=True)
    if draws:
        raise ValueError(f"--attention {asked.attention}: no line has words; expected one to draw")


def chunk_text(asked: argparse.Namespace, is_seen: bool, session: "Session", chunk: Chunk) -> str:
    """Translate a chunk in one of several processes; return the output for it."""
    found = session.translate(chunk.lines, asked.n_best, attention=asked.json_lines)
    return text_of(found, chunk, asked, is_seen)


def translate_by_jobs(
    folders: Sequence[str], lines: Iterable[str], asked: argparse.Namespace
) -> None:
    """Translate lines by several processes, to standard output."""
    in_process = partial(chunk_text, asked, sys.stdout.isatty())
    with closing(by_jobs(folders, lines, asked, in_process)) as texts:
        for text in texts:
            print(text, end="", flush=True)


def check(asked: argparse.Namespace, folders: Sequence[str]) -> None:
    """Raise ValueError for options at odds, before anything is loaded."""
    for folder in folders[::-1]:
        decode, drawn = search_of(folder, asked)
    if drawn is None and asked.n_best > decode.beam_size:
        raise ValueError(
            f"--n-best {asked.n_best}: expected 1 to {decode.beam_size}, the beam"
            " (--beam N makes it wider)"
        )
    remark = penalty_remark(decode, drawn, asked)
    if remark and not (asked.scores or asked.json_lines):  # it changes the scores
        print(remark, file=sys.stderr)
    if asked.jobs == 1:
        return
    check_jobs(asked)
    if asked.attention is not None:
        raise ValueError(
            f"--jobs {asked.jobs}: --attention {asked.attention} draws a single line; leave one out"
        )
    if sys.stdin.isatty():
        raise ValueError(
            f"--jobs {asked.jobs}: a terminal gives one line at a time; expected text from a file,"
            " < FILE, or no --jobs"
        )


def main() -> None:
    """Parse the command line, load the run, translate."""
    asked = options()  # first: --help needs no package
    from ..data.text import decoded_lines

    folders = asked.ensemble or [asked.run]
    check(asked, folders)
    if asked.jobs > 1:  # whose reader may still wait for input when Python closes its own stdin
        binary = sys.stdin.detach()  # type: ignore[union-attr]
        translate_by_jobs(folders, decoded_lines(binary, "<stdin>"), asked)
        return
    typed = sys.stdin.isatty()
    lines = asked_for() if typed else decoded_lines(sys.stdin.buffer, "<stdin>")
    translate(open_ensemble(folders, asked), lines, asked)
