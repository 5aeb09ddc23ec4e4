"""Pins: one version of every package that a developer's environment has, and its checksums."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import distribution, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M
    )
}


def needed(
    name: str, extras: Iterable[str] = (), found: dict[str, set[str]] | None = None
) -> dict[str, set[str]]:
    """Return the extras of every distribution that one needs here, by canonical name."""
    found = {} if found is None else found
    key = canonicalize_name(name)
    wanted = set(extras) - found.get(key, set())
    if key in found and not wanted:
        return found
    found.setdefault(key, set()).update(extras)
    for text in requires(name) or ():
        requirement = Requirement(text)
        marks = [{"extra": extra} for extra in ("", *extras)]
        if requirement.marker is None or any(requirement.marker.evaluate(mark) for mark in marks):
            needed(requirement.name, requirement.extras, found)
    return found


def is_pinned(name: str) -> bool:
    """Return whether a package is installed in its pinned version, or has no pin."""
    version = distribution(name).version.partition("+")[0]
    return PINS.get(canonicalize_name(name)) in (None, version)


def test_every_package_is_pinned() -> None:
    found = needed("seq2seq", ("dev",))
    if not all(map(is_pinned, found.keys() - {"seq2seq", "setuptools"})):
        pytest.skip("packages of other versions than the pinned ones may need others")
    assert {"torch", "sympy", "mecab-python3", "pytest", "execnet", "omegaconf"} <= found.keys()
    assert sorted(found.keys() - PINS.keys() - {"seq2seq", "setuptools"}) == []


def test_a_pin_is_one_version_and_fits() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(PINS)
    extras = PROJECT["optional-dependencies"]
    pinned = [text for extra in ("app", "report", "ja", "dev") for text in extras[extra]]
    for text in (*PROJECT["dependencies"], *pinned):
        requirement = Requirement(text)
        if requirement.name == "seq2seq":
            continue
        assert PINS[canonicalize_name(requirement.name)] in requirement.specifier, text


def test_every_pinned_file_but_torchs_has_a_checksum() -> None:
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\w)", re.sub(r"^#.*\n", "", text, flags=re.M).strip())
    locked = {}
    for entry in entries:
        head, *hashes = re.split(r" \\\n *", entry)
        requirement = Requirement(head)
        [version] = requirement.specifier
        assert version.operator == "=="
        assert hashes
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", found) for found in hashes), head
        locked[canonicalize_name(requirement.name)] = version.version
    assert "torch" not in locked
    assert {name: PINS[name] for name in locked.keys() & PINS.keys()} == {
        name: version for name, version in locked.items() if name in PINS
    }
    for name in needed("seq2seq", ("dev",)).keys() - {"seq2seq", "torch"}:
        assert canonicalize_name(name) in locked, f"{name}: run make lock"


def test_the_environment_has_the_pinned_versions() -> None:
    stamp = subprocess.run(
        ["sh", "-c", "cat constraints.txt requirements.txt pyproject.toml | cksum | cut -d' ' -f1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    if not (Path(sys.prefix) / f".ready-{stamp}").exists():
        pytest.skip("not the environment that make has made of these pins")
    for name in needed("seq2seq", ("dev",)).keys() - {"seq2seq", "setuptools"}:
        assert distribution(name).version.partition("+")[0] == PINS[canonicalize_name(name)], name
