"""What the README promises: commands, options, targets and files that exist."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from composing import composed

from seq2seq import config

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    "make compare",
    "make test",
    "make help",
    "python train.py norm=layer",
    "python train.py norm=batch data=multi30k_de_en model=base seed=3",
    "python train.py -m norm=none,batch,layer seed=1,2,3",
    "python train.py resume=RUN",
    "torchrun --nproc-per-node 2 train.py norm=layer",
    "python scripts/prepare_data.py data=multi30k_de_en",
    "python scripts/evaluate.py RUN [RUN ...] --split test --beam 5",
    "python scripts/translate.py RUN < input.txt > output.txt",
    "python scripts/compare.py RUN [RUN ...]",
    "python scripts/benchmark.py",
    "tensorboard --logdir outputs",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_readme_names_every_command(command: str) -> None:
    assert command in README


def shown_commands(text: str) -> Iterator[str]:
    """Yield the commands that a text shows in backticks or indented.

    Comments are left out, and continued lines are joined.
    """
    text = text.replace("\\\n", " ")
    for line in re.findall(r"`(python [^`]+)`", text) + re.findall(
        r"^ {4}(python .*)$", text, re.M
    ):
        yield re.split(r"  +(?=[^-\s\w]|[a-z]+ [a-z])|\s#", line.strip())[0].strip()


def overrides(command: str) -> list[list[str]]:
    """Return the overrides of a command, one list for each job.

    A sweep has as many jobs as are needed to use each value once.
    """
    words = [word.partition("=") for word in shlex.split(command)[2:] if "=" in word]
    values = {
        key: value.split(",") if "-m" in shlex.split(command) else [value]
        for key, _, value in words
    }
    jobs = max(map(len, values.values()), default=1)
    return [[f"{key}={each[i % len(each)]}" for key, each in values.items()] for i in range(jobs)]


HELP = "".join(
    path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("configs/hydra/help/*.yaml"))
)
SHOWN = sorted(
    {
        command
        for command in shown_commands(README + HELP)
        if re.match(r"python (train|scripts/prepare_data)\.py", command)
    }
)


def test_enough_commands_are_found() -> None:
    assert len(SHOWN) > 15
    assert "python train.py -m norm=none,batch,layer seed=1,2,3" in SHOWN
    assert sum("data.train.source" in command for command in SHOWN) >= 2


@pytest.mark.parametrize("command", SHOWN)
def test_each_command_that_is_shown_composes(command: str) -> None:
    name = "prepare_data" if "prepare_data" in command else "train"
    for job in overrides(command):
        assert isinstance(composed(*job, name=name), config.Config)


@pytest.mark.parametrize("name", ["evaluate", "translate", "compare", "benchmark"])
def test_each_option_that_is_shown_exists(name: str) -> None:
    shown = [line for line in README.splitlines() if f"scripts/{name}.py" in line]
    assert shown
    own = ROOT / "seq2seq" / "app" / f"{name}.py"
    file = own if own.exists() else ROOT / "seq2seq" / name / "command_line.py"
    source = file.read_text() + (ROOT / "seq2seq" / "app" / "options.py").read_text()
    for option in re.findall(r"(--[a-z-]+)", "".join(shown)):
        assert f'"{option}"' in source


def test_each_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:^ {4}|`)make ([a-z-]+)", README, re.M))
    assert {"compare", "test", "help"} <= named <= targets


def test_each_file_that_is_named_exists() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("http") or (ROOT / target).exists(), target
    for path in re.findall(r"`((?:seq2seq|scripts|configs|data|tests)/[\w/.-]*)`", README):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", ["README.md", "docs/layer.md"])
def test_the_tested_versions_of_python_are_those_of_ci(page: str) -> None:
    ci = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    jobs = ci["jobs"]["check"]["strategy"]["matrix"]["include"]
    *others, newest = sorted({job["python"] for job in jobs}, key=lambda v: int(v.split(".")[1]))
    text = (ROOT / page).read_text(encoding="utf-8")
    assert f"(tested with {', '.join(others)} and {newest})" in text
