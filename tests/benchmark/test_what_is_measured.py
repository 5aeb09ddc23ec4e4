"""What each table measures: its contestants' settings, and what belongs to which kind."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from composing import composed
from matplotlib.collections import LineCollection

from seq2seq.benchmark import memory, show, startup, tables
from seq2seq.benchmark.commands import chosen
from seq2seq.benchmark.contestants import contestants
from seq2seq.benchmark.figure import speeds_figure
from seq2seq.benchmark.memory import Memory
from seq2seq.benchmark.options import Options
from seq2seq.benchmark.peak import MemoryJob
from seq2seq.benchmark.profiling import Share
from seq2seq.benchmark.results import Check, Results
from seq2seq.benchmark.scaling import Scale, Trained, scale
from seq2seq.benchmark.startup import Start
from seq2seq.benchmark.timing import Speed, Timing
from seq2seq.benchmark.trained import run_of
from seq2seq.config import Precision
from seq2seq.runs.folder import Run


def test_each_table_is_made_with_the_settings_of_its_title() -> None:
    makers: dict[str, Any] = {
        **tables.one_layer("small", compiled=True),
        **tables.several_layers("small"),
        **tables.few_rows("small"),
    }
    shape, wide, few = (10, 8, 32, 32), (10, 8, 32, 16), (10, 1, 32, 32)
    found = {title: (make.func.__name__, make.args) for title, make in makers.items()}
    assert all(isinstance(make, partial) for make in makers.values())
    assert found == {
        "LSTM, training, T=10 B=8 I=32 H=32": ("lstm_tasks", (shape, True, True)),
        "LSTM, inference, T=10 B=8 I=32 H=32": ("lstm_tasks", (shape, False, True)),
        "GRU, training, T=10 B=8 I=32 H=32": ("stack_tasks", ("GRU", 1, False, True, shape)),
        "RNN, training, T=10 B=8 I=32 H=32": ("stack_tasks", ("RNN", 1, False, True, shape)),
        "cells, training, T=10 B=8 I=32 H=32": ("cell_tasks", (shape,)),
        "LSTM, 20 single steps of 5 rows, H=32": ("single_step_tasks", (32,)),
        **{
            f"{name}, {what}, T=10 B=8 I=32 H=16": (
                "stack_tasks",
                ("LSTM", number, True, what == "training", wide),
            )
            for number, name in ((1, "two directions"), (2, "two layers of two directions"))
            for what in ("training", "inference")
        },
        **{
            f"few rows, {what}, T=10 B=1 I=32 H=32": (
                "stack_tasks",
                ("LSTM", 1, False, what == "training", few),
            )
            for what in ("training", "inference")
        },
    }


def test_tables_of_several_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop over cells is slow: of the first size alone. Steps are of each hidden size once."""
    sizes = [(2, 3, 4, 5), (6, 7, 8, 9), (10, 11, 12, 9)]
    monkeypatch.setitem(tables.SIZES, "small", sizes)
    makers: dict[str, Any] = tables.one_layer("small", compiled=False)
    found = {title: make.args for title, make in makers.items()}
    assert found["cells, training, T=2 B=3 I=4 H=5"] == (sizes[0],)
    assert len([title for title in found if title.startswith("cells")]) == 1
    steps = {title: args for title, args in found.items() if "single steps" in title}
    assert steps == {
        "LSTM, 20 single steps of 5 rows, H=5": (5,),
        "LSTM, 20 single steps of 5 rows, H=9": (9,),
    }
    monkeypatch.setattr(tables, "layer_memory", lambda size: [Memory(str(size), 1, 1)])
    memories = tables.memories("small")
    assert list(memories)[:2] == [
        "LSTM, training, T=2 B=3 I=4 H=5",
        "LSTM, training, T=6 B=7 I=8 H=9",
    ]
    assert [row.name for [row] in memories.values()] == [str(size) for size in sizes]


def test_means_are_over_sizes_of_one_table() -> None:
    def rows(ratio: float) -> list[Timing]:
        return [Timing("base", 1, 1, 1, 1), Timing("ours", 1, ratio, 1, 1)]

    found = tables.means(
        {
            "LSTM, training, T=1": rows(1.0),
            "LSTM, inference, T=1": rows(9.0),
            "LSTM, training, T=2": rows(4.0),
        }
    )
    assert found == {"LSTM, training, 2 sizes": pytest.approx({"base": 1.0, "ours": 2.0})}


def test_contestants_have_the_settings_of_their_names() -> None:
    base, batch = composed("norm=none"), composed("norm=batch", "model.dropout=0.4")
    types = (Precision.fp32, Precision.bf16)
    found = contestants(base, {"batch": batch}, True, (False, True), types)
    assert {
        c.name: (c.config.model.input_feeding, c.config.trainer.precision.name, c.by_length)
        for c in found
    } == {
        f"{name}{', input feeding' * feeds}{', bf16' * (kind == 'bf16')}{', sorted' * is_sorted}": (
            feeds,
            kind,
            is_sorted or name != "norm=batch",
        )
        for name, orders in (("plain nn.LSTM", (False,)), ("norm=batch", (False, True)))
        for is_sorted in orders
        for feeds in (False, True)
        for kind in ("fp32", "bf16")
    }
    assert {(c.norm, c.config.model.dropout) for c in found} == {
        (None, base.model.dropout),
        ("batch", 0.4),
    }


def test_a_profile_is_of_the_rival_as_it_is_timed_or_of_ours() -> None:
    """The rival's batches have sentences of similar lengths."""
    base, more = composed("norm=none"), {"data": "grammar_en_zh", "size": "full", "set": []}
    rival, ours = (chosen(base, Options(profile=name, **more)) for name in ("plain", "rms"))
    assert (rival.config, rival.norm, rival.by_length) == (base, None, True)
    assert (ours.config.norm.kind.name, ours.norm, ours.by_length) == ("rms", "rms", False)


def test_trained_runs_have_folders_of_their_own() -> None:
    config = composed("norm=none")
    fed = replace(config, model=replace(config.model, input_feeding=True))
    folders = {
        run_of(one, norm, updates).folder
        for one in (config, fed)
        for norm in ("none", "layer")
        for updates in (1, 2)
    }
    assert len(folders) == 8


def test_memory_is_compared_with_the_first_job(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"train": 200.0, "decode": 300.0, "torch": 50.0, "application": 100.0}
    monkeypatch.setattr(memory, "peak", lambda job: sizes[job.kind])
    rows = memory.peaks({"a": MemoryJob("train"), "b": MemoryJob("decode")})
    assert rows == [
        Memory("a", 200.0, 1.0),
        Memory("b", 300.0, 1.5),
        Memory("import torch", 50.0, 0.25),
        Memory("import of train.py", 100.0, 0.5),
    ]


def test_a_corpus_has_medians_and_extremes() -> None:
    seen = Trained([1.0, 9.0, 2.0], np.array([0.5, 0.25, 7.0]).tolist(), 80.0)
    row = scale(1000, (3.0, 40.0), seen)
    assert vars(row) == {
        "name": "1,000 pairs",
        "prepare_seconds": 3.0,
        "prepare_mebibytes": 40.0,
        "start_seconds": 2.0,
        "start_least": 1.0,
        "start_most": 9.0,
        "update_milliseconds": 500.0,
        "train_mebibytes": 80.0,
    }


def test_the_tables_of_several_commands_keep_their_kinds() -> None:
    whole, part = Results(), Results()
    whole.settings = ["model=tiny"]
    whole.add(Results())
    assert whole.settings == ["model=tiny"]
    part.settings = ["model=base"]
    part.timings["layers"] = [Timing("a", 1, 2, 3, 4)]
    part.training["training"] = [Speed("b", 1, 2, 3, 4)]
    part.decoding["search"] = [Speed("c", 1, 2, 3, 4, 5)]
    part.memory["memory"] = [Memory("d", 1, 2)]
    part.starts["starts"] = [Start("e", 2, 1, 3)]
    whole.add(part)
    found = whole.as_json()
    assert found["settings"] == ["model=base"]
    assert list(found["tables"]) == ["layers", "training", "search"]
    assert found["memory"] == {"memory": [{"name": "d", "mebibytes": 1, "ratio": 2}]}
    assert found["startup"] == {"starts": [{"name": "e", "seconds": 2, "least": 1, "most": 3}]}


def test_each_column_on_the_terminal_has_its_own_number(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    show.show_timings(
        {"t": [Timing("a", 40, 1, 1.25, 1.5), Timing("products alone", 10, 2, 2.25, 2.5)]}
    )
    show.show_speeds({"s": [Speed("b", 3000, 3, 3.25, 3.5, 7)]}, "sentences")
    show.show_memory({"m": [Memory("c", 100, 4)]})
    show.show_starts({"u": [Start("d", 5, 5.25, 5.5)]})
    show.show_scales({"v": [Scale("e", 1, 2, 3, 3.25, 3.5, 4, 6)]})
    show.show_profiles({"w": [Share("f", 6, 7, 0.75), Share("g", 8, 9, 0.004)]}, {"w": "ops"})
    show.show_checks([Check("h", 1.0, None), Check("i", 1.0, "")], ["j"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if len(line) > 1] == [
        ["ms", "ratio", "quartiles", "products"],
        ["a", "40.0", "1.00", "1.25", "to", "1.50", "25%"],
        ["products", "alone", "10.0", "2.00", "2.25", "to", "2.50", "100%"],
        ["sentences/s", "ratio", "quartiles", "pieces"],
        ["b", "3,000", "3.00", "3.25", "to", "3.50", "7.0"],
        ["MiB", "ratio"],
        ["c", "100", "4.00"],
        ["seconds", "range"],
        ["d", "5.00", "5.25", "to", "5.50"],
        ["prepare", "s", "MiB", "start", "s", "range", "ms/update", "MiB"],
        ["e", "1.0", "2", "3.00", "3.25", "to", "3.50", "4", "6"],
        ["forward", "ms", "backward", "ms", "share"],
        ["f", "6.0", "7.0", "75.0%"],
        ["1", "of", "2", "checks", "passed"],
        ["failed:", "i:"],
        ["no", "time", "left", "for:", "j"],
    ]


def test_a_bars_line_goes_from_the_first_to_the_third_quartile() -> None:
    figure = speeds_figure({"t": [Speed("a", 1, 1, 1, 1), Speed("b", 1, 2, 1.5, 4)]})
    [line] = [c for c in figure.axes[0].collections if isinstance(c, LineCollection)]
    assert [part[:, 0].tolist() for part in line.get_segments()] == [[1, 1], [1.5, 4]]


def test_a_start_has_its_median_and_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "compared_runs", lambda folder: [])
    monkeypatch.setattr(startup, "timed", lambda jobs, rounds: {name: [4, 1, 2] for name in jobs})
    [(title, rows)] = startup.starts([], Run("nowhere"), "a", None, 3).items()
    assert title == "start-up, 3 times"
    assert {(row.seconds, row.least, row.most) for row in rows} == {(2, 1, 4)}
