import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

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
        assert (shown["initial"], shown["n"]) == (1000, 1003)
        assert 0 < shown["rate"] <= 1 / 0.02
    assert "1003/2000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("resumed_at", "metrics", "probes"),
    [(0, [0], []), (5, [0, 4, 5], [0, 4, 5]), (6, [0, 4, 5, 6], [0, 4, 5, 6])],
)
def test_what_was_logged_after_the_checkpoint_is_removed(
    tmp_path: Path, resumed_at: int, metrics: list[int], probes: list[int]
) -> None:
    """A run that begins again measures everything anew; at the end all is measured once more."""
    entries = [{"update": update, "final": False} for update in (0, 4, 5, 6)]
    entries.append({"update": 6, "final": True})
    for name in ("metrics.jsonl", "probes.jsonl"):
        kept = entries[: -1 if name == "metrics.jsonl" else None]
        text = "".join(json.dumps(entry) + "\n" for entry in kept)
        (tmp_path / name).write_text(text, encoding="utf-8")
    with Logbook(tmp_path, resumed_at, progress=False):
        found = {
            name: [entry["update"] for entry in read_metrics(tmp_path / name)]
            for name in ("metrics.jsonl", "probes.jsonl")
        }
    assert found == {"metrics.jsonl": metrics, "probes.jsonl": probes}
    [file] = tmp_path.glob("events.out.tfevents.*")
    starts = [event for event in EventFileLoader(str(file)).Load() if event.HasField("session_log")]
    assert [event.step for event in starts] == [resumed_at + 1]  # from where TensorBoard forgets
