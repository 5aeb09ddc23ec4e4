"""Lower bounds: pyproject.toml allows no version that is older than the tested ones."""

import re
import tomllib
from pathlib import Path

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
REQUIRED = [
    Requirement(line) for lines in (PROJECT["dependencies"], *EXTRAS.values()) for line in lines
]
APART = {
    "triton": "torch brings the one that it needs",
    "hydra-ray-launcher": "the tests start no Ray cluster",
    **dict.fromkeys(("ruff", "mypy", "codespell", "clang-format", "pre-commit"), "runs no test"),
    **dict.fromkeys(("mkdocs-material", "mkdocstrings"), "runs no test"),
}
"""Packages whose lower bound the tests do not meet -> why."""


def test_both_files_name_the_same_versions() -> None:
    """What pyproject.toml allows at least is what is tested, and nothing else is pinned."""
    bounds: dict[str, set[Version]] = {}
    for requirement in REQUIRED:
        for found in requirement.specifier:
            assert found.operator == ">=", str(requirement)
            bounds.setdefault(canonicalize_name(requirement.name), set()).add(
                Version(found.version)
            )
    assert APART.keys() <= bounds.keys()
    tested = {name: {version} for name, version in OLDEST.items() if name not in APART}
    assert {name: low for name, low in bounds.items() if name not in APART} == tested


def test_what_the_commands_need_has_a_lower_bound() -> None:
    unbounded = {r.name for r in REQUIRED if not r.specifier} - {"seq2seq"}
    assert unbounded <= {"types-PyYAML", "types-tqdm", "scipy-stubs"}, "stubs of mypy alone"


def test_sentencepiece_is_one_that_takes_long_words() -> None:
    """Up to 0.2.2 a word of 65,536 characters ends the process."""
    assert OLDEST["sentencepiece"] >= Version("0.2.3")


def test_xdist_is_one_that_can_be_turned_off() -> None:
    """Before 3.6.1, `-n 0` is an error beside the --dist of pyproject.toml."""
    assert OLDEST["pytest-xdist"] >= Version("3.6.1")
