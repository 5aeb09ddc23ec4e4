"""Translate lines with a trained run: a line in, a line out; at a terminal, interactive.

    python scripts/translate.py outputs/CORPUS/RUN < input.txt > output.txt

Where the project is installed, `seq2seq-translate` is the same command.
"""

import argparse
import math
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ..config.checks import Range
from ..shown import escaped, json_line
from .arguments import parser, whole
from .options import add_search_options, open_ensemble

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
        "lines; N is at most the beam, or the number of draws with --sample (default: 1)",
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
        type=Path,
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


def show(translations: "list[Translation]", n_best: int, scores: bool) -> None:
    """Print n_best lines, each after its score on request; missing translations are empty lines."""
    missing = n_best - len(translations)
    found = [(t.score, t.text) for t in translations] + [(-math.inf, "")] * missing
    for score, text in found:
        seen = escaped(text) if sys.stdout.isatty() else text
        print(f"{score:.4f}\t{seen}" if scores else seen)


def translate(session: "Session", asked: argparse.Namespace) -> None:
    """Translate standard input, chunk by chunk, to standard output."""
    from ..data.text import decoded_lines

    interactive, draws = sys.stdin.isatty(), asked.attention is not None
    lines = asked_for() if interactive else decoded_lines(sys.stdin.buffer, "<stdin>")
    while chunk := list(islice(lines, 1 if interactive or draws else CHUNK_LINES)):
        found = session.translate(chunk, asked.n_best, attention=draws or asked.json_lines)
        if draws and found[0][0].src_pieces:
            session.draw_attention(found[0][0], asked.attention)
            draws = False
        first = session.lines - len(chunk) + 1
        for number, translations in enumerate(found, first):
            if asked.json_lines:
                print(as_json(number, chunk[number - first], translations))
            else:
                show(translations, asked.n_best, asked.scores)
        sys.stdout.flush()
    if draws:
        raise ValueError(f"--attention {asked.attention}: no line has words; expected one to draw")


def main() -> None:
    """Parse the command line, load the run, translate."""
    asked = options()
    session = open_ensemble(asked.ensemble or [asked.run], asked)
    if session.sampling is None and asked.n_best > session.decode.beam_size:
        raise ValueError(
            f"--n-best {asked.n_best}: expected 1 to {session.decode.beam_size}, the beam"
            " (--beam N makes it wider)"
        )
    translate(session, asked)
