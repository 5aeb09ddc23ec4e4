"""Run the commands of a tutorial, and write what they print into it.

    python docs/transcript.py docs/first-hour.md

A command is a line that begins with `$ ` in a ```console block; the lines below it are what it
prints. Lines that end with a backslash, or that follow `<<'END'`, belong to the command. All
commands of a page run in one new folder, one after the other, as in one shell session. `...` in
the text stands for what differs from run to run, such as times. Numbers of a model, which differ
from processor to processor, are kept as they were.
"""

import doctest
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINKED = ("train.py", "scripts")
"""What the commands need of the repository, linked into the new folder."""
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.M | re.S)
PUBLISHED = re.compile(r"\bdata=(multi30k|tatoeba|small|iwslt)")
"""In a block that reads published corpora."""
VARYING = (
    (re.compile(r"\d+(?:\.\d+)?(?= ?(?:s|seconds|minutes)\b)"), "..."),
    (re.compile(r"\d[\d,]*(?= (?:target )?tokens/s)"), "..."),
    (re.compile(r"(?<=cpu, 1 x )\d+(?= threads)"), "..."),
    (re.compile(r"\b[0-9a-f]{16,}\b"), "..."),
)
"""What differs from run to run -> what is written for it."""

OF_THE_MODEL = re.compile(r"-?\d+\.\d+|(?<=update )\d+(?= of)")
"""Numbers that depend on the processor: a model's losses, scores and best update."""


@dataclass
class Command:
    """A command of a page, and what it prints."""

    text: str
    """As typed, on one or several lines."""
    output: str
    """With a newline at the end, or empty."""

    def prints(self, output: str) -> bool:
        """Return whether an output is the documented one.

        `...` stands for any text and a model's numbers for any number. Of translations only the
        number of lines counts.
        """
        if "translate.py" in self.text:
            return self.output.count("\n") == output.count("\n")
        documented, found = (OF_THE_MODEL.sub("#", text) or "\n" for text in (self.output, output))
        options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
        return doctest.OutputChecker().check_output(documented, found, options)


def commands(block: str) -> list[Command]:
    """Return the commands of a block, without the `$ ` before each."""
    found: list[Command] = []
    ends_at = ""
    goes_on = False
    for line in block.splitlines():
        if goes_on or ends_at:
            found[-1].text += f"\n{line}"
            ends_at = "" if line == ends_at else ends_at
        elif line.startswith("$ "):
            found.append(Command(line[2:], ""))
            here = re.search(r"<<'(\w+)'", line)
            ends_at = here[1] if here else ""
        else:
            found[-1].output += f"{line}\n"
            continue
        goes_on = line.endswith("\\")
    return found


def shell(folder: Path, mirror: str | None) -> dict[str, str]:
    """Return the variables of a shell session in a new folder; link what the commands need."""
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HYDRA", "SEQ2SEQ"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    own = {"PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "LC_ALL": "C.UTF-8"}
    own["OMP_NUM_THREADS"] = "1"  # two threads wait for each other where other work runs
    return kept | own | ({"SEQ2SEQ_DATA_MIRROR": mirror} if mirror else {})


def printed(command: Command, folder: Path, variables: dict[str, str]) -> str:
    """Run a command; return what it prints, in the order of a terminal, without progress bars."""
    done = subprocess.run(
        ["bash", "-c", command.text],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )
    text = done.stdout.decode("utf-8").replace(str(folder), "FOLDER")
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]
    return "\n".join(lines)


def as_documented(output: str) -> str:
    """Return an output with `...` for what differs from run to run."""
    for pattern, instead in VARYING:
        output = pattern.sub(instead, output)
    return output


def updated(page: str, mirror: str | None) -> str:
    """Return a page with what its commands print now."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        variables = shell(folder, mirror)

        def replaced(block: re.Match[str]) -> str:
            text = ""
            for command in commands(block[1]):
                output = printed(command, folder, variables)
                same = command.output and command.prints(output)
                text += f"$ {command.text}\n{command.output if same else as_documented(output)}"
            return f"```console\n{text}```"

        return BLOCK.sub(replaced, page)


if __name__ == "__main__":
    for file in map(Path, sys.argv[1:]):
        found = updated(file.read_text(encoding="utf-8"), os.environ.get("SEQ2SEQ_DATA_MIRROR"))
        file.write_text(found, encoding="utf-8")
