"""Fixtures for scripts/compare.py on small runs, over those of `run_fixtures`."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import final_results
from fixture_types import Compare, Variant
from runs import Runs, Script

from seq2seq.runs.folder import Run


@pytest.fixture
def compare(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compare:
    """Return a function that runs scripts/compare.py into tmp_path/out, 80 columns wide."""
    monkeypatch.setenv("COLUMNS", "80")
    command = script("compare")
    return lambda *arguments: command(*arguments, "--out", tmp_path / "out")


@pytest.fixture
def variant(two_runs: Runs, tmp_path: Path) -> Variant:
    """Return a function that copies a run, with other settings and other results."""

    def make(
        name: str, norm: str = "none", results: Mapping[str, Any] | None = None, **config: Any
    ) -> str:
        folder = tmp_path / "runs" / name
        shutil.copytree(getattr(two_runs, norm), folder)
        run = Run(folder)
        stored, settings = final_results(run), run.config()
        for key, value in config.items():
            group, _, option = key.rpartition("__")
            setattr(getattr(settings, group) if group else settings, option, value)
        found = stored | dict(results or {}) | {"seed": settings.seed}
        run.results_file.write_text(json.dumps(found))
        run.save_config(settings)
        return str(folder)

    return make
