import json
import math
import time
from pathlib import Path

import numpy as np
import pytest

from seq2seq.runs import logbook
from seq2seq.runs.jsonl import read_metrics
from seq2seq.runs.logbook import Logbook

POSITION = {"update": 1, "epoch": 0, "tokens": 10, "seconds": 0.5}


def refused(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_a_figure_that_is_not_finite_is_null(tmp_path: Path) -> None:
    with Logbook(tmp_path, 0, progress=False) as book:
        book.log("valid", POSITION, {"loss": math.nan, "perplexity": math.inf, "bleu": 0.25})
        book.probes.write(
            {
                "probe": "gradient_flow",
                "update": 0,
                "final": False,
                "raw": [1.0, -math.inf],
                "size": np.float64(2),
            }
        )
    (line,), (probe,) = (
        (tmp_path / name).read_text().splitlines() for name in ("metrics.jsonl", "probes.jsonl")
    )
    expected = {"kind": "valid", **POSITION, "loss": None, "perplexity": None, "bleu": 0.25}
    assert json.loads(line, parse_constant=refused) == expected
    assert read_metrics(tmp_path / "metrics.jsonl") == [expected]
    assert json.loads(probe, parse_constant=refused)["raw"] == [1.0, None]
    assert read_metrics(tmp_path / "probes.jsonl")[0]["size"] == 2.0


def test_lines_of_earlier_versions_are_read_and_repaired(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(
        '{"update": 1, "loss": NaN}\n{"update": 2, "loss": [Infinity, -Infinity, 1.5]}\n{"update":'
        ' 3, "lo'
    )
    entries = [{"update": 1, "loss": None}, {"update": 2, "loss": [None, None, 1.5]}]
    assert read_metrics(file) == entries
    with Logbook(tmp_path, 2, progress=False):
        assert [
            json.loads(line, parse_constant=refused) for line in file.read_text().splitlines()
        ] == entries


def test_the_progress_bar_of_a_resumed_run_measures_only_new_updates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logbook, "refresh_seconds", lambda: 0.0)
    with Logbook(tmp_path, 1000, progress=True) as book:
        for update in range(1001, 1004):
            time.sleep(0.02)
            book.show(update, 2000, {"loss": "1.0"})
        shown = book.bar.format_dict
        assert shown["n"] == 1003
        assert 0 < shown["rate"] <= 1 / 0.02
    assert "1003/2000" in capsys.readouterr().err
