"""Fonts of figures: matplotlib's own, one for Chinese and Japanese, and the system's for the rest.

matplotlib arranges the characters of a text, from right to left or joined where their script asks
for it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from .shown import escaped

LOG = logging.getLogger(__name__)
BUNDLED = ["DejaVu Sans", "Noto Sans SC"]
"""Families of matplotlib and of the zhplot package."""
UNUSUAL = re.compile("bold|black|heavy|italic|oblique|thin|light|medium|condensed|mono|serif|ui")
"""Styles in the names of font files that are used only if there is no other font."""
NO_LETTERS = re.compile("lastresort|blank|notdef", re.IGNORECASE)
"""Fonts that have a box for every character."""
EAST_ASIAN = ("Hangul", "Han", "Hiragana", "Katakana", "Bopomofo")
MOST_CODES = 4
"""The most code points that are shown for a run of characters without a font."""
_lacking: set[str] = set()
"""Characters that no font has."""


def bundled_fonts() -> Path:
    """Return the folder of the zhplot package's fonts; to import it would import matplotlib."""
    package = find_spec("zhplot")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("No module named 'zhplot'", name="zhplot")
    return Path(package.origin).parent / "fonts"


@cache
def use_fonts() -> None:
    """Let figures show Chinese and Japanese too, in a font of the zhplot package."""
    import matplotlib
    from matplotlib import font_manager

    font_manager.fontManager.addfont(str(bundled_fonts() / "NotoSansSC-Regular.ttf"))
    matplotlib.rcParams["font.family"] = BUNDLED


def drawable(labels: Sequence[str]) -> list[str]:
    """Return labels as figures can draw them, after adding the system's fonts that they need.

    A character that acts is shown by its code, and so is a character that no font has. The log
    names each script without a font once.
    """
    use_fonts()
    labels = [escaped(label) for label in labels]
    unknown = set("".join(labels)) - _characters() - _lacking
    if unknown:
        missing = unknown - _add_system_fonts(unknown)
        _remark(missing)
        _lacking.update(missing)
    return ["".join(_with_codes(label)) for label in labels]


@cache
def _characters() -> set[str]:
    """Return the characters of the fonts in use."""
    from matplotlib import font_manager, ft2font

    paths = [font_manager.findfont(name) for name in BUNDLED]
    return {chr(code) for path in paths for code in ft2font.FT2Font(path).get_charmap()}


def _add_system_fonts(wanted: set[str]) -> set[str]:
    """Let figures use the system's fonts that have some of these characters; return these."""
    import matplotlib
    from matplotlib import font_manager, ft2font

    found: set[str] = set()
    for path in sorted(font_manager.findSystemFonts(), key=_rank):
        if found == wanted:
            break
        try:
            font = ft2font.FT2Font(path)
        except RuntimeError:  # a damaged file, or a kind of font that matplotlib cannot read
            continue
        new = {char for char in wanted - found if font.get_char_index(ord(char))}
        if new and font.scalable and not NO_LETTERS.search(font.family_name):
            font_manager.fontManager.addfont(path)
            matplotlib.rcParams["font.family"] = [
                *matplotlib.rcParams["font.family"],
                font.family_name,
            ]
            found |= new
    _characters().update(found)
    return found


def _rank(path: str) -> tuple[bool, bool, str]:
    """Return the key that sorts font files: plain styles first, then Noto's fonts."""
    name = Path(path).stem.lower()
    return bool(UNUSUAL.search(name)), not name.startswith("noto"), name


def _with_codes(label: str) -> Iterator[str]:
    """Yield the parts of a label, with the codes of characters that no font has."""
    for lacks, run in groupby(label, _lacking.__contains__):
        chars = list(run)
        codes = " ".join(f"{ord(char):04X}" for char in chars[:MOST_CODES])
        yield f"U+{codes}{'…' * (len(chars) > MOST_CODES)}" if lacks else "".join(chars)


def _script(char: str) -> str:
    """Return the name of a character's script; Common for symbols of all scripts."""
    from fontTools import unicodedata

    return str(unicodedata.script_name(unicodedata.script(char), default="Common"))


def _remark(missing: Iterable[str]) -> None:
    """Log each script that has just turned out to have no font, with a font to install."""
    for script in sorted({_script(char) for char in missing} - {_script(c) for c in _lacking}):
        name, font, package = script, f"Noto Sans {script}", "fonts-noto-core"
        if script in EAST_ASIAN:
            font, package = "Noto Sans CJK", "fonts-noto-cjk"
        if script in ("Common", "Inherited", "Unknown"):
            name, font = "some symbols", "Noto Sans Symbols 2"
        LOG.warning(
            "no font here has %s: figures show code points instead; install %s (Debian: %s)",
            *(name, font, package),
        )
