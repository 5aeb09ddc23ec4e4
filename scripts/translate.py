"""Translate lines with a trained run: a line in, a line out. At a terminal it asks for sentences.

    python scripts/translate.py outputs/grammar_en_zh/layer-lstm-small-seed1 < input.txt > output.txt
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TextIO

from seq2seq.cli import add_search_options, guarded, open_translator
from seq2seq.translation import Session, Translation

CHUNK_LINES = 2000
"""Lines read before any is translated: sorted by length they fill batches well, and memory stays small."""


def lines_of(stream: TextIO) -> Iterator[str]:
    """Lines without their ends, one at a time."""
    raw = stream.buffer
    for number, line in enumerate(raw, start=1):
        try:
            yield line.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise ValueError(f"<stdin>:{number}: invalid UTF-8 at byte {error.start + 1} "
                             f"(0x{line[error.start]:02x}); expected UTF-8 text") from error


def show(translations: list[Translation], scores: bool) -> None:
    """One line a translation, the score before it on request."""
    for translation in translations:
        print(f"{translation.score:.4f}\t{translation.text}" if scores else translation.text)


def converse(session: Session, arguments: argparse.Namespace) -> None:
    """Ask for a sentence, translate it, until the end of input."""
    print("A sentence and Enter translates it; Ctrl-D ends.", file=sys.stderr)
    while True:
        try:
            line = input("> ")
        except EOFError:
            print(file=sys.stderr)
            return
        show(translate(session, [line], arguments)[0], arguments.scores)
        sys.stdout.flush()


def translate(session: Session, lines: list[str], arguments: argparse.Namespace) -> list[list[Translation]]:
    """Translate some lines; the attention of the first is drawn where it is asked for."""
    found = session.translate(lines, arguments.n_best, attention=arguments.attention is not None)
    if arguments.attention is not None and found and found[0]:
        session.draw_attention(found[0][0], arguments.attention)
        arguments.attention = None
    return found


def main() -> None:
    """Parse the command line, load the run, translate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    add_search_options(parser)
    parser.add_argument("--n-best", type=int, default=1, metavar="N", help="translations a line, best first")
    parser.add_argument("--scores", action="store_true", help="the score and a tab before each translation")
    parser.add_argument("--attention", type=Path, metavar="PNG", help="draw the first line's attention map")
    arguments = parser.parse_args()
    session = open_translator(arguments.run, arguments)
    if sys.stdin.isatty():
        converse(session, arguments)
        return
    lines = lines_of(sys.stdin)
    while chunk := list(islice(lines, CHUNK_LINES)):
        for translations in translate(session, chunk, arguments):
            show(translations, arguments.scores)
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(guarded(main))
