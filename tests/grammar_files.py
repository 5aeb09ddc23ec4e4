"""The built-in grammar's file, and a small grammar to change."""

from pathlib import Path

GRAMMAR_FILE = Path(__file__).resolve().parents[1] / "data" / "grammar_en_zh" / "grammar.txt"
SMALL = """\
start S
side en spaced capital
side zh unspaced
words Noun sg pl zh mw class=book
  book +s 书 本
  letter +s 信 封
rule S
  with N=Noun(class=book) Q=number(low=2 high=99)
  en Q N.pl .
  zh Q N.mw N 。
"""


def write(folder: Path, text: str) -> Path:
    """Write a grammar's file."""
    path = folder / "grammar.txt"
    path.write_text(text, encoding="utf-8")
    return path
