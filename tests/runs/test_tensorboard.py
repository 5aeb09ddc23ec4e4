"""The content of a run's event files, read as TensorBoard reads them."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TrainHere, final_results
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import api_pb2, get_experiment, list_session_groups
from tensorboard.plugins.hparams.backend_context import Context

from seq2seq.data.batches import Batch
from seq2seq.data.dataset import Prepared
from seq2seq.data.preparation import prepare
from seq2seq.figures import attention_figure
from seq2seq.model import Translator
from seq2seq.probes.histograms import STEPS, histograms, stored_statistics
from seq2seq.runs.checkpoint import group, load_checkpoint
from seq2seq.runs.folder import Run
from seq2seq.runs.jsonl import read_metrics
from seq2seq.runs.logbook import Logbook
from seq2seq.training import validation
from seq2seq.translation.loading import load_translator

pytest_plugins = ["run_fixtures"]

NORMS = ("none", "batch", "layer")


Shown = tuple[Any, dict[str, Any]]


def events(folder: Path) -> EventAccumulator:
    """Return all events of a run."""
    return EventAccumulator(
        str(folder), dict.fromkeys(("scalars", "histograms", "images", "tensors"), 0)
    ).Reload()


@pytest.fixture(scope="module")
def written(three_runs: dict[str, Path]) -> dict[str, EventAccumulator]:
    return {norm: events(folder) for norm, folder in three_runs.items()}


def last_model(folder: Path) -> tuple[Translator, Batch]:
    """Return the model at its last validation, and the first validation sentences as a batch."""
    run = Run(folder)
    model, _ = load_translator(run, torch.device("cpu"), "last")
    prepared = prepare(run.config().data, run.config().tokenizer, False)
    assert isinstance(prepared, Prepared)
    return model, prepared.split("valid").batch(np.arange(20))


# -- scalars side by side ---


def layout(accumulator: EventAccumulator) -> Any:
    event = accumulator.Tensors("custom_scalars__config__")[-1]
    return layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])


@pytest.mark.parametrize("norm", NORMS)
def test_every_chart_has_a_line_of_each_run(
    norm: str, written: dict[str, EventAccumulator]
) -> None:
    tags = written[norm].Tags()["scalars"]
    charts = {
        chart.title: list(chart.multiline.tag)
        for category in layout(written[norm]).category
        for chart in category.chart
    }
    lines = {
        title: [tag for pattern in patterns for tag in tags if re.match(pattern, tag)]
        for title, patterns in charts.items()
    }
    assert lines["training and validation loss (nats/token)"] == ["train/nll", "valid/loss"]
    assert lines["validation BLEU"] == ["valid/bleu"]
    assert lines["gradient norm"] == ["gradient_norm/all"]
    assert lines["target tokens/s"] == ["train/tokens_per_second"]
    assert sorted(
        tag for found in lines.values() for tag in found if tag.startswith("gradient_norm")
    ) == sorted(tag for tag in tags if tag.startswith("gradient_norm"))
    assert all(len(lines[title]) == len(patterns) for title, patterns in charts.items())


@pytest.mark.parametrize("norm", NORMS)
def test_scalars_equal_the_metrics(
    norm: str, written: dict[str, EventAccumulator], three_runs: dict[str, Path]
) -> None:
    entries = read_metrics(three_runs[norm] / "metrics.jsonl")
    for kind, name in (
        ("train", "nll"),
        ("train", "tokens_per_second"),
        ("train", "gradient_norm/encoder"),
        ("valid", "loss"),
        ("valid", "bleu"),
    ):
        expected = {e["update"]: e[name] for e in entries if e["kind"] == kind}
        found = {
            e.step: e.value
            for e in written[norm].Scalars(name if "/" in name else f"{kind}/{name}")
        }
        assert found == pytest.approx(expected, rel=1e-6)


def test_a_resumed_run_has_the_same_layout(tmp_path: Path) -> None:
    for resumed_at in (0, 10):
        with Logbook(tmp_path, resumed_at, progress=False) as logbook:
            logbook.log("valid", {"update": resumed_at + 5}, {"bleu": 1.0})
    found = events(tmp_path)
    assert [e.step for e in found.Scalars("valid/bleu")] == [5, 15]
    assert layout(found).category[0].title == "Runs side by side"


# -- histograms ---


@pytest.mark.parametrize("norm", NORMS)
def test_histograms_equal_the_values_of_the_layers(
    norm: str, written: dict[str, EventAccumulator], three_runs: dict[str, Path]
) -> None:
    expected = dict(histograms(*last_model(three_runs[norm])))
    tags = [tag for tag in written[norm].Tags()["histograms"] if not tag.startswith("running")]
    assert sorted(tags) == sorted(expected)
    assert len(tags) > 6 * 3 * 3  # kinds, places, steps
    for tag in tags:
        found, values = written[norm].Histograms(tag), expected[tag].double()
        assert [e.step for e in found] == [4, 8, 12]
        histogram = found[-1].histogram_value
        assert histogram.num == sum(histogram.bucket) == values.numel()
        assert (histogram.min, histogram.max) == pytest.approx(
            (values.min().item(), values.max().item()), rel=1e-3
        )
        assert histogram.sum == pytest.approx(values.sum().item(), rel=1e-3, abs=1e-3)
        assert histogram.sum_squares == pytest.approx(values.square().sum().item(), rel=1e-3)


@pytest.mark.parametrize("norm", NORMS)
def test_gates_are_in_the_range_of_their_nonlinearity(
    norm: str, written: dict[str, EventAccumulator]
) -> None:
    for gate, least in (("i", 0), ("f", 0), ("g", -1), ("o", 0)):
        found = [
            e.histogram_value
            for tag in written[norm].Tags()["histograms"]
            if tag.startswith(f"gate_{gate}/")
            for e in written[norm].Histograms(tag)
        ]
        assert len(found) >= 3 * 3 * 3
        assert all(least <= h.min <= h.max <= 1 for h in found)
        assert min(h.min for h in found) < (0.4 if least == 0 else -0.2)


def test_histograms_do_not_change_the_training(train_here: TrainHere, tmp_path: Path) -> None:
    shown, hidden = (
        train_here(
            tmp_path / value,
            f"trainer.histograms={value}",
            "norm=batch",
            "norm.min_rows=2",
            "norm.cell=output",
            "model.dropout=0.3",
            "trainer.validate_every=3",
        )
        for value in ("true", "false")
    )
    assert not events(hidden.folder).Tags()["histograms"]
    assert events(hidden.folder).Tags()["images"] == ["attention"]
    assert len(events(shown.folder).Tags()["histograms"]) > 100
    weights = [
        group(load_checkpoint(run.checkpoint("last"))[0], "model") for run in (shown, hidden)
    ]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert final_results(shown)["valid_loss"] == final_results(hidden)["valid_loss"]


# -- batch norm's statistics ---


def test_histograms_of_statistics_equal_the_stored_statistics(
    written: dict[str, EventAccumulator], three_runs: dict[str, Path]
) -> None:
    model, _ = last_model(three_runs["batch"])
    tags = {tag for tag in written["batch"].Tags()["histograms"] if tag.startswith("running")}
    expected = {
        f"running_{kind}_{term}/{place}/step{t}": moments[number][t]
        for place, terms in stored_statistics(model).items()
        for term, moments in terms.items()
        for number, kind in enumerate(("mean", "var"))
        for t in STEPS
        if t < len(moments[0])
    }
    without = {
        f"running_{kind}_hh/encoder0_{way}/step0"
        for kind in ("mean", "var")
        for way in ("forward", "backward")
    }
    assert tags == expected.keys() - without
    for tag in tags:
        found = written["batch"].Histograms(tag)
        assert [e.step for e in found] == [4, 8, 12]
        histogram = found[-1].histogram_value
        assert histogram.num == expected[tag].size
        assert (histogram.min, histogram.max) == pytest.approx(
            (expected[tag].min(), expected[tag].max()), rel=1e-5
        )
        assert histogram.sum == pytest.approx(expected[tag].sum(), rel=1e-4, abs=1e-5)
        assert "mean" in tag or histogram.min > 0


def test_attention_is_drawn_at_each_validation(
    train_here: TrainHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "attention_figure", attention_figure)
    run = train_here(tmp_path / "run", "trainer.histograms=false")
    images = events(run.folder).Images("attention")
    assert [image.step for image in images] == [8, 16]
    assert min(images[-1].width, images[-1].height) > 100


def test_statistics_are_drawn_at_each_validation(written: dict[str, EventAccumulator]) -> None:
    assert [e.step for e in written["batch"].Images("batch_norm/by_step")] == [4, 8, 12]
    for norm in ("none", "layer"):
        assert written[norm].Tags()["images"] == ["attention"]
        assert not [tag for tag in written[norm].Tags()["histograms"] if "running" in tag]


# -- hyperparameters ---


@pytest.fixture(scope="module")
def shown(three_runs: dict[str, Path]) -> Shown:
    """Return what the HParams tab gets for a sweep's folder: the settings, and the rows by run."""
    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(three_runs["none"].parent)).Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(multiplexer, "outputs")))
    experiment = get_experiment.Handler(
        RequestContext(), context, "", api_pb2.GetExperimentRequest()
    ).run()
    asked = api_pb2.ListSessionGroupsRequest(
        start_index=0, slice_size=10, allowed_statuses=[api_pb2.STATUS_SUCCESS]
    )
    asked.col_params.extend(api_pb2.ColParams(metric=info.name) for info in experiment.metric_infos)
    rows = list_session_groups.Handler(RequestContext(), context, "", asked).run().session_groups
    return experiment, {row.sessions[0].name: row for row in rows}


def test_the_settings_that_differ_come_first(shown: Shown) -> None:
    infos = shown[0].hparam_infos
    assert (infos[0].name, infos[0].differs, set(infos[0].domain_discrete)) == (
        "norm.kind",
        True,
        set(NORMS),
    )
    assert not any(info.differs for info in infos[1:])
    assert {"seed", "optimizer.lr", "cell.kind", "norm.gain"} < {info.name for info in infos}


def test_each_run_is_a_row_with_its_settings_and_final_bleu(
    shown: Shown, three_runs: dict[str, Path]
) -> None:
    rows = shown[1]
    assert set(rows) == {folder.name for folder in three_runs.values()}
    for norm, folder in three_runs.items():
        row = rows[folder.name]
        assert row.hparams["norm.kind"].string_value == norm
        assert row.hparams["seed"].number_value == 1
        assert row.hparams["norm.gain"].string_value == "None"
        assert row.hparams["trainer.recalibrate"].string_value == "True"
        assert row.sessions[0].status == api_pb2.STATUS_SUCCESS
        metrics = {value.name.tag: value.value for value in row.metric_values}
        results = json.loads((folder / "results.json").read_text())
        assert metrics["final/bleu"] == pytest.approx(results["test"]["bleu"], rel=1e-6)
        assert metrics["final/chrf"] == pytest.approx(results["test"]["chrf"], rel=1e-6)
