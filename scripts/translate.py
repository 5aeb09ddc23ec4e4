"""Translate lines with a trained run: a line in, a line out. At a terminal it asks for sentences.

python scripts/translate.py outputs/grammar_en_zh/layer-lstm-small-seed1 < input.txt > output.txt
"""

import argparse
import io
import math
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from seq2seq.app.cli import add_search_options, guarded, open_translator
from seq2seq.data.text import decoded_lines
from seq2seq.translation.lines import Translation

CHUNK_LINES = 2000
"""Lines read before any is translated: sorted by length they fill batches well, and memory stays
small.
"""


def asked_for() -> Iterator[str]:
    """Sentences from a person at a terminal, until the end of input."""
    with suppress(ImportError):
        import readline  # noqa: F401  (arrow keys and history)
    print("A sentence and Enter translates it; Ctrl-D ends.", file=sys.stderr)
    with suppress(EOFError):
        while True:
            yield input("> " if sys.stdout.isatty() else "")
    print(file=sys.stderr)


def show(translations: list[Translation], n_best: int, scores: bool) -> None:
    """n_best lines, the score before each on request. Where fewer were found, empty ones: the lines
    stay in step.
    """
    found = [(t.score, t.text) for t in translations] + [(-math.inf, "")] * (
        n_best - len(translations)
    )
    for score, text in found:
        print(f"{score:.4f}\t{text}" if scores else text)


def main() -> None:
    """Parse the command line, load the run, translate."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    add_search_options(parser)
    parser.add_argument(
        "--n-best",
        type=int,
        default=1,
        metavar="N",
        help=(
            "N translations a line, best first, each on "
            "a line of its own; empty ones where fewer are found; N is at most the beam"
        ),
    )
    parser.add_argument(
        "--scores",
        action="store_true",
        help=(
            "before each translation its score and a tab: "
            "log-probability in nats, divided by length to the power of the length penalty"
        ),
    )
    parser.add_argument(
        "--attention",
        type=Path,
        metavar="PNG",
        help="draw the attention map of the first line that has words",
    )
    arguments = parser.parse_args()
    session = open_translator(arguments.run, arguments)
    if not 1 <= arguments.n_best <= max(session.decode.beam_size, 1):
        raise ValueError(
            f"--n-best {arguments.n_best}: expected 1 to {session.decode.beam_size}, the beam "
            "(--beam N makes it wider)"
        )
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # whatever the locale says
    interactive, draws = sys.stdin.isatty(), arguments.attention is not None
    lines = asked_for() if interactive else decoded_lines(sys.stdin.buffer, "<stdin>")
    while chunk := list(islice(lines, 1 if interactive or draws else CHUNK_LINES)):
        found = session.translate(chunk, arguments.n_best, attention=draws)
        if draws and found[0][0].src_pieces:
            session.draw_attention(found[0][0], arguments.attention)
            draws = False
        for translations in found:
            show(translations, arguments.n_best, arguments.scores)
        sys.stdout.flush()
    if draws:
        raise ValueError(f"--attention {arguments.attention}: no line has words; nothing was drawn")


if __name__ == "__main__":
    sys.exit(guarded(main))
