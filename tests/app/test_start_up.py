"""Start-up: a command imports nothing that it does not need."""

import subprocess
import sys
from pathlib import Path

import pytest
from runs import Runs

from seq2seq.benchmark.workload import SMALL, SMALL_CORPUS

pytest_plugins = ["run_fixtures"]

LISTING = """
import sys
from seq2seq.app import commands
command = sys.argv[1]
sys.argv = [command, *sys.argv[2:]]
code = 0
try:
    getattr(commands, command)()
except SystemExit as end:
    code = end.code
print("EXIT", code)
print("MODULES", *sys.modules)
"""
DRAWING = {"matplotlib", "zhplot", "PIL", "vl_convert", "jinja2", "pandas"}
TRAINING = {"tensorboard", "torch.utils.tensorboard", "torch._dynamo", "torch._inductor"}
HYDRA = {"hydra", "omegaconf", "antlr4"}


def imported(command: str, *arguments: str, given: str = "", code: int = 0) -> set[str]:
    """Return the modules that a command has imported when it ends with this exit code."""
    done = subprocess.run(
        [sys.executable, "-c", LISTING, command, *arguments],
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"EXIT {code}\n" in done.stdout, done.stderr
    return set(done.stdout.rpartition("MODULES ")[2].split())


def test_translating_imports_neither_figures_nor_training(two_runs: Runs) -> None:
    found = imported("translate", str(two_runs.layer), given=two_runs.sources[0] + "\n")
    assert "torch" in found
    assert not found & (DRAWING | TRAINING | HYDRA | {"scipy", "sacrebleu", "triton"})


def test_training_does_not_import_the_compiler(tmp_path: Path) -> None:
    settings = [*SMALL, *SMALL_CORPUS, "trainer.max_updates=1", f"data.root={tmp_path}"]
    found = imported("train", *settings, f"hydra.run.dir={tmp_path}/run")
    assert "torch.utils.tensorboard" in found
    assert not found & {"torch._dynamo", "torch._inductor", "scipy", "pandas"}


def test_comparing_single_seeds_imports_neither_torch_nor_matplotlib(
    two_runs: Runs, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("out")
    found = imported("compare", str(two_runs.none), str(two_runs.layer), "--out", str(out))
    assert (out / "report.html").exists()
    unwanted = {"torch", "matplotlib", "zhplot", "scipy", "sentencepiece", "safetensors"}
    assert not found & (unwanted | TRAINING | HYDRA)


@pytest.mark.parametrize("command", ["translate", "compare", "evaluate", "score", "export"])
def test_help_imports_neither_torch_nor_figures(command: str) -> None:
    found = imported(command, "--help")
    assert not found & (DRAWING - {"jinja2", "PIL", "vl_convert"} | TRAINING | HYDRA)
    assert not found & {"torch", "scipy", "sacrebleu"}


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("translate", ["nowhere"]),
        ("score", ["nowhere", "--source", __file__, "--target", __file__]),
        ("evaluate", ["nowhere"]),
        ("export", ["nowhere", "--out", "there"]),
        ("compare", ["nowhere"]),
    ],
)
def test_a_missing_run_is_reported_without_torch(command: str, options: list[str]) -> None:
    found = imported(command, *options, code=2)
    assert not found & ({"torch", "matplotlib", "scipy"} | TRAINING | HYDRA)
