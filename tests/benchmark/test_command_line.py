"""The command line of the benchmark: where it is started from, and what it loads."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runs import Command, Script

from seq2seq.benchmark import commands
from seq2seq.benchmark.command_line import parsed
from seq2seq.benchmark.options import DEFAULTS, OWN_DEFAULTS, OWN_SMALL_DEFAULTS, SMALL_DEFAULTS
from seq2seq.benchmark.results import Results

pytest_plugins = ["run_fixtures"]
ROOT = Path(__file__).resolve().parents[2]


def start(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "began", [[str(ROOT / "scripts/benchmark.py")], ["-m", "seq2seq.benchmark"]]
)
def test_the_package_has_the_command_of_the_script(began: list[str]) -> None:
    done = start(*began, "layers", "--rounds", "0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--rounds 0: expected at least 1" in done.stderr


def test_help_does_not_load_torch() -> None:
    done = start("-X", "importtime", "-m", "seq2seq.benchmark", "--help")
    assert "python scripts/benchmark.py" in done.stdout
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "seq2seq.benchmark.command_line" in loaded
    assert not loaded & {"torch", "numpy", "hydra", "matplotlib", "rich"}


PROFILE = "--profile layer: expected none of --rounds, --norms, --feeding, --precisions, --figure"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("train --profile layer --figure a.png", PROFILE),
        ("train --profile layer --precisions bf16 --feeding", PROFILE),
        ("decode --profile layer --rounds 5", PROFILE),  # the default, though typed
        ("decode --profile layer --norms none", PROFILE),
        ("layers --minutes 1", "--device cpu: expected no --minutes"),
        ("layers --device auto --minutes 1", "--device cpu: expected no --minutes"),
        (
            "layers --device cuda --compile",
            "--device cuda: expected neither --figure nor --compile",
        ),
        ("train --set norm=layer", "--set norm=layer: has no effect; expected --norms"),
        ("scaling --set data=files", "--set data=files: has no effect; expected --data"),
        (
            "startup --set trainer.threads=1",
            "--set trainer.threads=1: has no effect; expected --th",
        ),
        (
            "memory --set seed=1 trainer.precision=bf16",
            "--set trainer.precision=bf16: has no effect",
        ),
        ("decode --set decode.beam_size=3", "--set decode.beam_size=3: has no effect; expected no"),
        ("train --set norm=rms --profile layer", "--set norm=rms: has no effect"),
    ],
)
def test_an_option_without_effect_is_refused(
    options: str, message: str, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    done = script("benchmark")(*options.split())
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"benchmark.py: {message}")
    assert len(done.err) <= 200


@pytest.mark.parametrize(
    "options",
    [
        "train --profile layer --set trainer.precision=bf16 --updates 3",
        "decode --profile plain --set decode.beam_size=3 --sentences 3 --trained 3",
        "layers --device cuda --minutes 3",
        "layers --figure a.png --compile",
        "scaling --set norm=layer trainer.precision=bf16",
        "processes --set trainer.precision=bf16",
        "memory --set decode.beam_size=3",
        "train --norms layer --feeding --precisions bf16 --rounds 3 --figure a.png",
    ],
)
def test_an_option_with_effect_is_taken(options: str) -> None:
    parsed(options.split())


def test_amounts_that_are_given_count_with_small_models_too(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Any, ...]] = []
    monkeypatch.setattr(commands, "scales", lambda sizes, _, *more: seen.append((sizes, *more)))
    monkeypatch.setattr(commands, "times_together", lambda *given: seen.append(given[3:]))
    monkeypatch.setattr(commands, "prepared", lambda *_: None)
    monkeypatch.setattr(Results, "show", lambda _: None)
    measure: Command = script("benchmark")
    small = ("--size", "small", "--rounds", 1)
    assert measure("scaling", *small).code == 0
    assert measure("scaling", *small, "--pairs", "1000,2000,1000", "--updates", 50).code == 0
    assert measure("processes", *small).code == 0
    assert measure("processes", *small, "--updates", 50).code == 0
    assert seen == [([200, 400], 3, 1), ([1000, 2000], 50, 1), (2, 1), (50, 1)]


def test_every_default_is_that_of_an_option() -> None:
    names = ("layers", "train", "decode", "memory", "startup", "processes", "scaling", "all")
    options = {name: vars(parsed([name])) for name in names}
    assert {option for found in options.values() for option in found} >= DEFAULTS.keys()
    assert DEFAULTS.keys() >= SMALL_DEFAULTS.keys()
    for name, own in (*OWN_DEFAULTS.items(), *OWN_SMALL_DEFAULTS.items()):
        assert options[name].keys() >= own.keys()
    for found in options.values():
        assert all(value is not None for option, value in found.items() if option in DEFAULTS)
    assert [options[name]["rounds"] for name in ("layers", "all")] == [11, 5]
    assert parsed(["train", "--size", "small"]).updates == 2
    assert parsed(["train", "--size", "small", "--updates", "8"]).updates == 8
