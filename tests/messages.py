"""What every error message is: short, about something that a person knows, with a way out.

`conftest.Done` checks each command of the tests that ended with exit code 2.
"""

import re
from collections.abc import Sequence

LINE = re.compile(r"^\w[\w-]*(?:\.py)?(?: \w+)?: (?P<text>.+)$", re.DOTALL)
"""An error: the program, and what is wrong."""
SUBJECT = re.compile(
    r"^no run|(?P<option>(?<!\S)--?[a-z])|(?P<setting>[\w.]+=|\$\{)|(?P<file>[^\s:]*[/.]\S|<stdin>)"
)
"""An option, a setting, or a file."""
WAY_OUT = re.compile(
    r"expect|instead|did you mean|no such (file|run|folder)|leave|overwrite=|pip install|"
    r"--help|unpack|set data\.|again|choose|wait|\bmay do\b|supports at most|supply|see data\.|raise |"
    r"not an option here|resume=|init_from=|iconv|try "
)
"""Words that say what to do, or what would have been right."""
LONGEST = 200
"""The most characters of a line, in which a path counts as its last name: two lines of 100."""
FOLDERS = re.compile(r"(?<![^\s'\"=:;,()])[^\s'\"=:;,()]*/(?=[^\s/])")
"""The folders of a path. A search begins only where a path can begin: long words have many letters."""
GAP = " [...] "
"""What a message has that was too long: right only for what somebody has typed."""
TYPED = 60
"""The fewest characters of an argument that may cost a message its middle."""
INNER = ("Traceback", "Error executing job", "full_key", "object_type", " raised while ")
"""What only programmers of Hydra and OmegaConf know."""


def assert_explained(err: str, asked: Sequence[str]) -> None:
    """Check what a command with exit code 2 has printed; `asked` are its arguments.

    Progress and remarks may stand before the error. A sweep repeats the errors of its jobs.
    """
    for inner in INNER:
        assert inner not in err, err
    shown = [line.rpartition("\r")[2] for line in err.rstrip("\n").split("\n")]  # over the bar
    lines = [line for line in shown if not line.startswith("failed: ")]
    found = LINE.match(lines[-1])
    assert found is not None, err
    assert sum(bool(LINE.match(line)) for line in lines) == 1, err
    text = found["text"]
    for line in shown:
        assert_short(line, asked)
    values = {part for word in asked for part in (word, word.partition("=")[2]) if part}
    values |= {part[: TYPED // 3] for part in values if len(part) > TYPED}  # shown cut
    assert SUBJECT.search(text) or any(value in text for value in values), err
    assert WAY_OUT.search(text), err


def assert_short(line: str, asked: Sequence[str]) -> None:
    """Check that a line is as short as every message has to be, in whole sentences.

    Its middle may be missing where an argument is long. A command to go on with is whole.
    """
    if "; continue with: " in line:
        return
    assert len(FOLDERS.sub("", line)) <= LONGEST, line
    long = any(len(FOLDERS.sub("", word)) > TYPED for word in asked)
    assert GAP not in line or long, line
