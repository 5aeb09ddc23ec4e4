import json
import statistics

import pytest
import torch

from seq2seq import benchmark
from seq2seq.benchmark import interleave

pytest_plugins = ["run_fixtures"]


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until a contestant moves it on."""

    class Clock:
        now = 0.0

        def contestant(self, *seconds):
            """Takes each of these times in turn."""
            times = list(seconds)

            def run():
                self.now += times.pop(0) if len(times) > 1 else times[0]

            return run

    clock = Clock()
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: clock.now)
    return clock


# -- timing ----------------------------------------------------------------------------------------------------------


def test_contestants_run_in_turn_and_warm_up_counts_for_nothing():
    calls = []
    timings = interleave({name: lambda name=name: calls.append(name) for name in "abc"}, rounds=3, warm_up=2)
    assert calls == ["a", "b", "c"] * 5
    assert [t.name for t in timings] == ["a", "b", "c"]


def test_ratios_are_of_the_same_round(clock):
    # The machine slows down tenfold in rounds 2 and 3; the ratios do not notice.
    base = clock.contestant(99, 99, 1, 10, 10, 1, 2)
    other = clock.contestant(99, 99, 2, 20, 30, 2, 8)
    one, two = interleave({"base": base, "other": other}, rounds=5)
    assert (one.ratio, one.low, one.high) == (1, 1, 1)
    assert one.milliseconds == pytest.approx(2000)
    assert two.milliseconds == pytest.approx(8000)
    ratios = [2, 2, 3, 2, 4]
    low, middle, high = statistics.quantiles(ratios, n=4)
    assert (two.ratio, two.low, two.high) == pytest.approx((middle, low, high))
    assert two.ratio == pytest.approx(2)


def test_one_round_is_enough(clock):
    one, two = interleave({"base": clock.contestant(2), "other": clock.contestant(3)}, rounds=1, warm_up=0)
    assert (one.milliseconds, two.milliseconds) == pytest.approx((2000, 3000))
    assert (two.ratio, two.low, two.high) == pytest.approx((1.5, 1.5, 1.5))


# -- scripts/benchmark.py ------------------------------------------------------------------------------------------


@pytest.fixture
def measure(script):
    threads = torch.get_num_threads()
    yield script("benchmark")
    torch.set_num_threads(threads)


ROWS = {
    "layers": [f"{name}{dtype}" for dtype in ("", " bfloat16") for name in (
        "torch.nn.LSTM", *(f"LSTM norm={norm} {backend}" for backend in ("fused", "reference")
                           for norm in ("none", "batch", "layer", "rms")))],
    "train": ["norm=none", "norm=batch", "norm=layer", "norm=rms"],
    "decode": [f"norm={norm} beam={beam}" for norm in ("none", "batch", "layer", "rms") for beam in (1, 5)],
}


@pytest.mark.parametrize("what", list(ROWS))
def test_each_table_is_shown_and_written(measure, tmp_path, what):
    file = tmp_path / "new" / "a.json"
    done = measure(what, "--size", "small", "--rounds", 2, "--threads", 1, "--json", file)
    assert (done.code, done.err) == (0, "")
    results = json.loads(file.read_text())
    assert (results["torch"], results["threads"], results["rounds"]) == (torch.__version__, 1, 2)
    lines = done.out.splitlines()
    assert lines.pop(0) == f"torch {torch.__version__}, 1 threads, 2 rounds"
    assert len(results["tables"]) == (2 if what == "layers" else 1)
    for title, rows in results["tables"].items():
        assert [row["name"] for row in rows] == ROWS[what]
        assert rows[0]["ratio"] == rows[0]["low"] == rows[0]["high"] == 1
        assert all(row["milliseconds"] > 0 for row in rows)
        assert [lines.pop(0).rstrip(), lines.pop(0).split()] == [title, ["ms", "(median)", "ratio", "(median)",
                                                                       "quartiles"]]
        for row in rows:
            assert lines.pop(0).split() == [*row["name"].split(), f"{row['milliseconds']:.1f}", f"{row['ratio']:.2f}",
                                            f"{row['low']:.2f}", "to", f"{row['high']:.2f}"]
    assert lines == []


def test_without_a_word_every_table_is_measured(measure, tmp_path, monkeypatch):
    monkeypatch.setattr(measure.module, "TABLES", {
        name: lambda size, rounds, name=name: {f"{name} {size}": [benchmark.Timing(f"a {rounds}", 1.0, 1.0, 1.0, 1.0)]}
        for name in ROWS})
    assert measure("--json", tmp_path / "a.json").code == 0
    assert list(json.loads((tmp_path / "a.json").read_text())["tables"]) == ["layers full", "train full", "decode full"]
    assert measure("train", "--json", tmp_path / "a.json", "--size", "small").code == 0
    tables = json.loads((tmp_path / "a.json").read_text())["tables"]
    assert list(tables) == ["train small"]
    assert tables["train small"][0]["name"] == "a 11"


@pytest.mark.parametrize(("options", "message"), [
    (["layers", "--rounds", 0], "--rounds 0: expected at least 1"), (["everything"], "invalid choice: 'everything'"),
    (["layers", "--threads", 0], "threads=0: expected at least 1"),
    (["layers", "--size", "huge"], "invalid choice: 'huge'"),
])
def test_wrong_options_are_named(measure, options, message):
    done = measure(*options)
    assert (done.code, done.out) == (2, "")
    assert message in done.err.splitlines()[-1]


def test_what_is_trained_learns(measure):
    """The training step that is timed is a whole one: the loss of its batch falls."""
    model = measure.module.translators("small")["norm=layer"]
    ids, lengths = torch.randint(4, 100, (8, 5)), torch.full((8,), 5)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    before = model(ids, lengths, ids, lengths)[0].item()
    for _ in range(5):
        measure.module.training_update(model, optimizer, (ids, lengths, ids, lengths))
    assert model(ids, lengths, ids, lengths)[0].item() < before
