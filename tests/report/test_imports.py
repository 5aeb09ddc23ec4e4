"""A report starts fast: it imports neither torch nor modules that need it."""

import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "tensorboard",
    "omegaconf",
    "sentencepiece",
    "sacrebleu",
    "seq2seq.model",
    "seq2seq.training",
    "seq2seq.translation",
    "seq2seq.data",
    "seq2seq.probes",
)


@pytest.mark.parametrize("module", ["seq2seq.report.page", "seq2seq.runs.records"])
def test_reading_runs_imports_no_model(module: str) -> None:
    shown = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "seq2seq.runs.folder" in shown
    assert [name for name in shown if f"{name}.".startswith(tuple(f"{h}." for h in HEAVY))] == []


def test_the_experiments_are_listed_for_the_shell() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "seq2seq.report.experiments"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown == (
        "gradient_flow robustness convergence length batch_size batch_norm train_eval_gap invariance\n"
    )
