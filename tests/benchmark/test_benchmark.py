import json
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from matplotlib.image import imread
from runs import Command, Script
from torch import Tensor

from seq2seq.benchmark import commands, layer_products, memory, tables, timing
from seq2seq.benchmark.figure import speed_figure
from seq2seq.benchmark.layers import NORMS
from seq2seq.benchmark.results import Results
from seq2seq.benchmark.startup import Start
from seq2seq.benchmark.timing import Speed, Timing, geometric_means, interleave
from seq2seq.device import multiplies_bfloat16
from seq2seq.figures import NORM_COLOURS

pytest_plugins = ["run_fixtures"]


class Clock:
    """A clock that only contestants advance."""

    now = 0.0

    def contestant(self, *seconds: float) -> Callable[[], None]:
        """Return a function that takes each of these times in turn."""
        times = list(seconds)

        def run() -> None:
            self.now += times.pop(0) if len(times) > 1 else times[0]

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace the clock of the measurements."""
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    return clock


# -- timing ---


def test_contestants_run_in_turn_and_warm_up_is_not_counted() -> None:
    calls: list[str] = []
    timings = interleave({name: partial(calls.append, name) for name in "abc"}, rounds=3, warm_up=2)
    assert calls == ["a", "a", "b", "b", "c", "c"] * 5  # the second of each pair is timed
    assert [t.name for t in timings] == ["a", "b", "c"]


def test_ratios_compare_times_of_the_same_round(clock: Clock) -> None:
    # The machine is ten times slower in rounds 2 and 3; the ratios are not. Untimed runs take 99 s.
    def contestant(*seconds: float) -> Callable[[], None]:
        return clock.contestant(99, 99, *(each for second in seconds for each in (99, second)))

    one, two = interleave(
        {"base": contestant(1, 10, 10, 1, 2), "other": contestant(2, 20, 30, 2, 8)}, rounds=5
    )
    assert (one.ratio, one.low, one.high) == (1, 1, 1)
    assert one.milliseconds == pytest.approx(2000)
    assert two.milliseconds == pytest.approx(8000)
    ratios = [2, 2, 3, 2, 4]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    assert (two.ratio, two.low, two.high) == pytest.approx((middle, low, high))
    assert two.ratio == pytest.approx(2)


def test_one_round_is_enough(clock: Clock) -> None:
    one, two = interleave(
        {"base": clock.contestant(2), "other": clock.contestant(3)}, rounds=1, warm_up=0
    )
    assert (one.milliseconds, two.milliseconds) == pytest.approx((2000, 3000))
    assert (two.ratio, two.low, two.high) == pytest.approx((1.5, 1.5, 1.5))


def test_speeds_are_medians_and_more_is_faster(clock: Clock) -> None:
    # The short run that comes first takes 99 s and is not timed; nor is the first round.
    def contestant(*seconds: float) -> tuple[Callable[[], None], Callable[[], None]]:
        return clock.contestant(99), clock.contestant(50, *seconds)

    one, two = timing.interleaved_speeds(
        {"base": contestant(2, 20, 2), "other": contestant(1, 5, 4)}, units=100, rounds=3
    )
    assert (one.per_second, one.ratio, one.low, one.high) == pytest.approx((50, 1, 1, 1))
    assert (two.per_second, two.ratio) == pytest.approx((25, 2))
    assert (two.low, two.high) == pytest.approx((1.25, 3))  # of 2, 4 and 0.5


def test_quartiles_lie_within_the_ratios() -> None:
    assert timing.quartiles([1, 3], [1, 1]) == pytest.approx((2, 1.5, 2.5))


def test_means_are_geometric_and_by_contestant() -> None:
    tables = [[Timing("base", 1, 1, 1, 1), Timing("other", 1, ratio, 1, 1)] for ratio in (0.5, 8.0)]
    assert geometric_means(tables) == pytest.approx({"base": 1.0, "other": 2.0})


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize(("cell", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
@pytest.mark.parametrize("backward", [True, False])
def test_products_cost_as_much_as_those_of_a_layer(
    backward: bool,
    cell: str,
    gates: int,
    directions: int,
    at_once: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flops = []

    def linear(x: Tensor, weight: Tensor) -> Tensor:
        flops.append(2 * x.numel() * len(weight))
        return x @ weight.t()

    def mm(a: Tensor, b: Tensor) -> Tensor:
        flops.append(2 * a.numel() * b.size(1))
        return a @ b

    chosen = at_once and directions == 2
    times = iter([2.0, 1.0] if chosen else [1.0, 2.0])  # in turn, at once
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(layer_products, "shortest_time", lambda task: next(times))
    monkeypatch.setattr(layer_products, "packs", lambda dtype: False)
    monkeypatch.setattr(F, "linear", linear)
    monkeypatch.setattr(torch, "mm", mm)
    task = layer_products.products((3, 4, 5, 6), backward, cell, layers=2, directions=directions)
    assert isinstance(task, partial)
    assert task.func is (layer_products.at_once if chosen else layer_products.in_turn)
    task()
    inputs = 5 + directions * 6  # of the first layer, and of the second
    forward = 2 * 3 * 4 * gates * 6 * directions * (inputs + 2 * 6)
    assert sum(flops) == forward * (3 if backward else 1)


def test_memory_is_measured_in_a_process_for_each_contestant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "NORMS", ["batch"])
    baseline, *ours = memory.layer_memory((25, 64, 256, 256))
    assert (baseline.name, baseline.ratio) == ("torch.nn.LSTM", 1.0)
    assert [m.name for m in ours] == ["LSTM norm=batch"]
    least = 25 * 64 * 4 * 256 * 4 / 2**20  # the gates of all steps need this much
    assert all(
        m.mebibytes > least and m.ratio == m.mebibytes / baseline.mebibytes
        for m in (baseline, *ours)
    )


def test_kernels_are_loaded_before_the_clock_of_the_progress_bar(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    happened = []

    def no_rounds(*_: object, **__: object) -> list[object]:
        happened.append("bar")
        return []

    monkeypatch.setattr(tables, "load_kernels", lambda: happened.append("kernels"))
    monkeypatch.setattr(tables, "tqdm", no_rounds)
    assert tables.layer_timings("small", 1, compiled=False) == {}
    assert happened == ["kernels", "bar"]


# -- scripts/benchmark.py ---


@pytest.fixture
def measure(script: Script) -> Iterator[Command]:
    threads = torch.get_num_threads()
    yield script("benchmark")
    torch.set_num_threads(threads)


FUSED = [f"LSTM norm={norm} fused" for norm in NORMS]
LSTMS = [
    "torch.nn.LSTM",
    *FUSED,
    *(f"LSTM norm={norm} reference" for norm in NORMS),
    "loop over torch.nn.LSTMCell",
    *(f"{name} bfloat16" for name in ["torch.nn.LSTM", *FUSED] if multiplies_bfloat16()),
    "products alone",
]
SHAPE = "T=10 B=8 I=32 H=32"
TABLES = {
    f"LSTM, training, {SHAPE}": LSTMS,
    f"LSTM, inference, {SHAPE}": LSTMS,
    **{
        f"{cell}, training, {SHAPE}": [
            f"torch.nn.{cell}",
            *(f"{cell} norm={norm}" for norm in NORMS),
            "products alone",
        ]
        for cell in ("GRU", "RNN")
    },
    f"cells, training, {SHAPE}": [
        "torch.nn.LSTMCell",
        *(f"LSTMCell norm={norm}" for norm in NORMS),
    ],
    "LSTM, 20 single steps of 5 rows, H=32": [
        "torch.nn.LSTMCell",
        "torch.nn.LSTM",
        *(f"LSTM norm={norm}{scope}" for norm in NORMS for scope in ("", " frozen")),
    ],
    **{
        f"{name}, {what}, {shape}": [
            "torch.nn.LSTM",
            *(f"LSTM norm={norm}" for norm in NORMS),
            "products alone",
        ]
        for name, shape in (
            ("two directions", "T=10 B=8 I=32 H=16"),
            ("two layers of two directions", "T=10 B=8 I=32 H=16"),
            ("few rows", "T=10 B=1 I=32 H=32"),
        )
        for what in ("training", "inference")
    },
}


def test_each_table_is_shown_and_written(measure: Command, tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.json"
    done = measure("layers", "--size", "small", "--rounds", 2, "--threads", 1, "--json", file)
    assert done.code == 0
    results = json.loads(file.read_text())
    machine = results["machine"]
    assert (machine["torch"], machine["threads"]) == (torch.__version__, 1)
    assert (results["rounds"], results["command"].split()[1:3]) == (2, ["layers", "--size"])
    assert {
        title: [row["name"] for row in rows] for title, rows in results["tables"].items()
    } == TABLES
    lines = done.out.splitlines()
    assert lines.pop(0).startswith(f"torch {torch.__version__}, {machine['processor']}, 1 of ")
    for title, rows in results["tables"].items():
        assert rows[0]["ratio"] == rows[0]["low"] == rows[0]["high"] == 1
        assert all(row["milliseconds"] > 0 for row in rows)
        products = next(
            (row["milliseconds"] for row in rows if row["name"] == "products alone"), None
        )
        assert [lines.pop(0).rstrip(), lines.pop(0).split()] == [
            title,
            ["ms", "ratio", "quartiles", *(["products"] if products else [])],
        ]
        for row in rows:
            has_share = products and "bfloat16" not in row["name"]
            share = [f"{products / row['milliseconds']:.0%}"] if has_share else []
            assert lines.pop(0).split() == [
                *row["name"].split(),
                f"{row['milliseconds']:.1f}",
                f"{row['ratio']:.2f}",
                f"{row['low']:.2f}",
                "to",
                f"{row['high']:.2f}",
                *share,
            ]
    assert lines == []  # no means over one size


def test_without_a_command_everything_is_measured(
    measure: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {
        "layers": Results(timings={"layer": [Timing("a", 1.0, 1.0, 1.0, 1.0)]}),
        "train": Results(training={"training": [Speed("b", 1.0, 1.0, 1.0, 1.0)]}),
        "decode": Results(decoding={"greedy": [Speed("c", 1.0, 1.0, 1.0, 1.0)]}),
        "memory": Results(memory={"peak": [memory.Memory("d", 1.0, 1.0)]}, settings=["data=e"]),
        "startup": Results(starts={"start-up": [Start("f", 1.0, 1.0, 1.0)]}),
    }
    for name, found in parts.items():
        monkeypatch.setattr(commands, name, lambda _, found=found: found)
    done = measure("--json", tmp_path / "a.json", "--figure", tmp_path / "a.png")
    assert done.code == 0
    results = json.loads((tmp_path / "a.json").read_text())
    assert list(results["tables"]) == ["layer", "training", "greedy"]
    assert results["settings"] == ["data=e"]
    assert results["machine"]["commit"] is None or len(results["machine"]["commit"]) >= 40
    assert (list(results["memory"]), list(results["startup"])) == (["peak"], ["start-up"])
    rows = [line.split()[0] for line in done.out.splitlines() if line[:1] in set("abcdf")]
    assert rows == ["a", "b", "c", "d", "f"]


def test_numbers_of_a_part_are_written_before_the_next(
    measure: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> Results:
        raise RuntimeError("no memory left")

    row = Timing("a", 1.0, 1.0, 1.0, 1.0)
    monkeypatch.setattr(commands, "layers", lambda _: Results(timings={"layer": [row]}))
    monkeypatch.setattr(commands, "train", fail)
    done = measure("all", "--json", tmp_path / "a.json")
    assert (done.code, done.err) == (1, "benchmark.py: no memory left\n")
    assert list(json.loads((tmp_path / "a.json").read_text())["tables"]) == ["layer"]


def test_means_over_sizes_are_shown_and_written(
    measure: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Timing("a", 1.0, 1.0, 1.0, 1.0)
    found = {f"layers, full, H={hidden}": [row] for hidden in (1, 2)}
    monkeypatch.setattr(tables, "layer_timings", lambda *_: found)
    done = measure("layers", "--json", tmp_path / "a.json")
    assert "layers, full, 2 sizes" in done.out
    results = json.loads((tmp_path / "a.json").read_text())
    assert results["means"] == {"layers, full, 2 sizes": {"a": 1.0}}


@pytest.mark.parametrize(
    ("option", "failing"), [("--figure", "draw"), ("--figure", "show"), ("--json", "as_json")]
)
def test_what_fails_at_the_end_costs_no_numbers(
    option: str, failing: str, measure: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no numbers of this kind")

    row = Timing("a", 1.0, 1.0, 1.0, 1.0)
    monkeypatch.setattr(tables, "layer_timings", lambda *_: {"layers, H=1": [row]})
    monkeypatch.setattr(Results, failing, fail)
    done = measure("layers", option, tmp_path / "a", "--json", tmp_path / "a.json")
    assert (done.code, done.err) == (1, "benchmark.py: no numbers of this kind\n")
    if failing != "show":
        assert "layers, H=1" in done.out
    if failing != "as_json":
        assert "layers, H=1" in json.loads((tmp_path / "a.json").read_text())["tables"]


@pytest.mark.parametrize("dtypes", [("",), ("", " bfloat16")], ids=["float32", "bfloat16 too"])
def test_the_figure_shows_every_norm(
    dtypes: tuple[str, ...], measure: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["torch.nn.LSTM", *(f"{name}{dtype}" for dtype in dtypes for name in FUSED)]
    rows = [Timing(name, 1.0, 1.0 + number / 10, 1.0, 1.0) for number, name in enumerate(names)]
    found = {f"LSTM, {what}, {SHAPE}": rows for what in ("training", "inference")}
    monkeypatch.setattr(tables, "layer_timings", lambda *_: found)
    assert measure("layers", "--figure", tmp_path / "speed.png").code == 0
    assert imread(tmp_path / "speed.png").std() > 0.1
    figure = speed_figure({f"LSTM, training, {SHAPE}": {t.name: t.ratio for t in rows}})
    heights = [bar.get_height() for container in figure.axes[0].containers for bar in container]
    shown = [f"LSTM norm={norm} fused{dtype}" for dtype in dtypes for norm in NORM_COLOURS]
    assert heights == [next(t.ratio for t in rows if t.name == name) for name in shown]
    assert len(figure.legends[0].get_texts()) == len(shown)


@pytest.mark.slow
def test_the_reference_is_compiled_on_request(measure: Command, tmp_path: Path) -> None:
    assert (
        measure(
            "layers", "--size", "small", "--rounds", 1, "--compile", "--json", tmp_path / "a.json"
        ).code
        == 0
    )
    rows = json.loads((tmp_path / "a.json").read_text())["tables"][f"LSTM, training, {SHAPE}"]
    assert "LSTM norm=layer reference, torch.compile" in [row["name"] for row in rows]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["layers", "--rounds", 0], "--rounds 0: expected at least 1"),
        (["everything"], "invalid choice: 'everything'"),
        (["layers", "--threads", 0], "--threads 0: expected at least 1"),
        (["layers", "--size", "huge"], "--size huge: expected one of small, full"),
        (["memory", "--figure", "a.png"], "unrecognized arguments: --figure a.png"),
        (["train", "--updates", 0], "--updates 0: expected at least 1"),
        (["train", "--norms", "none,nothing"], "norm=nothing: expected one of batch"),
        (["decode", "--data", "nowhere"], "data=nowhere: expected tatoeba_"),
        (
            ["decode", "--set", "model.encoder_layers=2"],
            "model.encoder_layers=2: expected 1: the translator",
        ),
    ],
)
def test_wrong_options_are_named(
    measure: Command, options: list[int | str | str], message: str
) -> None:
    done = measure(*options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err.splitlines()[-1]
