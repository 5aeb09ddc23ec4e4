"""Lower bounds: pyproject.toml allows no version that is older than the tested ones."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
OLDEST: dict[str, Version] = {
    canonicalize_name(name): Version(version)
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+)$", (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8"), re.M
    )
}
USED = [
    *(line for extra in ("app", "report", "ja", "slurm") for line in EXTRAS[extra]),
]
"""What the commands need, but for torch, which people have already and which is not replaced."""


def lowest(line: str) -> tuple[str, Version]:
    """Return the name and the lower bound of a requirement."""
    requirement = Requirement(line)
    [bound] = [s for s in requirement.specifier if s.operator == ">="]
    return canonicalize_name(requirement.name), Version(bound.version)


@pytest.mark.parametrize("line", [line for line in USED if not line.startswith("seq2seq[")])
def test_a_lower_bound_is_the_version_that_is_tested(line: str) -> None:
    name, bound = lowest(line)
    assert OLDEST[name] == bound


@pytest.mark.parametrize("name", ["pytest", "pytest-xdist", "hypothesis", "setuptools"])
def test_the_tools_of_the_tests_have_a_lower_bound_too(name: str) -> None:
    [bound] = [low for found, low in map(lowest_if_any, EXTRAS["dev"]) if found == name]
    assert OLDEST[name] == bound


def lowest_if_any(line: str) -> tuple[str, Version | None]:
    """Return the name of a requirement, and its lower bound if it has one."""
    return lowest(line) if ">=" in line else (Requirement(line).name, None)


def test_sentencepiece_is_one_that_takes_long_words() -> None:
    """Up to 0.2.2 a word of 65,536 characters ends the process."""
    assert OLDEST["sentencepiece"] >= Version("0.2.3")
