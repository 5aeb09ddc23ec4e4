"""Histograms of the recurrent layers against values computed sentence by sentence."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kernel_cases import needs_compiler
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from seq2seq.config import CellConfig, CellKind, Config, ModelConfig
from seq2seq.data.batches import Batch
from seq2seq.data.dataset import ParallelDataset
from seq2seq.model import Translator, Vocabulary
from seq2seq.probes.histograms import (
    STEPS,
    histograms,
    statistics_histograms,
    stored_statistics,
    write_histograms,
)
from seq2seq.probes.statistics_figure import statistics_figure
from seq2seq.rnn import NormConfig, NormKind, Statistics, frozen
from seq2seq.runs.logbook import Logbook

H = 12
SHAPE = ModelConfig(embedding_size=8, hidden_size=H, dropout=0.2, init_scale=0.5)


def translator(
    norm: str = "none", cell: str = "lstm", statistics: str = "per_step", **shape: Any
) -> Translator:
    """Return a model in eval mode that has seen one batch, so that batch norm has statistics."""
    torch.manual_seed(3)
    model = Translator(
        replace(SHAPE, **shape),
        NormConfig(NormKind[norm], statistics=Statistics[statistics]),
        CellConfig(CellKind[cell]),
        Vocabulary(30, 30, False),
    )
    model(*inputs(batch()))
    return model.eval()


def batch(
    lengths: Sequence[int] = (4, 12, 7, 12, 1), tgt_lengths: Sequence[int] = (3, 6, 13, 2, 5)
) -> Batch:
    chance = torch.Generator().manual_seed(4)
    sides = [
        torch.randint(4, 30, (len(lengths), max(n)), generator=chance)
        for n in (lengths, tgt_lengths)
    ]
    return Batch(
        sides[0],
        torch.tensor(lengths),
        sides[1],
        torch.tensor(tgt_lengths),
        torch.arange(len(lengths)),
    )


def inputs(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return batch.src, batch.src_lengths, batch.tgt, batch.tgt_lengths


def same_values(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """Assert that both have the same numbers in some order, up to rounding.

    Batch norm enlarges the rounding where a feature hardly varies.
    """
    torch.testing.assert_close(
        found.flatten().sort()[0], expected.flatten().sort()[0], rtol=tolerance, atol=tolerance
    )


# -- hidden states, by the layers themselves, one sentence at a time ---


@torch.no_grad()
def hidden_states(model: Translator, batch: Batch) -> dict[str, Tensor]:
    """Return the hidden states by place and step.

    Each sentence is run alone; a step has the states of the sentences that are long enough.
    """
    found: dict[str, list[Tensor]] = {}

    def keep(place: str, states: Tensor) -> None:
        for t, h in enumerate(states):
            found.setdefault(f"hidden/{place}/step{t}", []).append(h)

    for src, length, tgt, tgt_length in zip(*inputs(batch), strict=True):
        x = model.src_embedding(src[:length])[:, None]
        for i, layer in enumerate(model.encoder.layers):
            x, _ = layer(x)
            if layer.bidirectional:
                keep(f"encoder{i}_forward", x[:, 0, : H // 2])
                keep(f"encoder{i}_backward", x[:, 0, H // 2 :].flip(0))
            else:
                keep(f"encoder{i}", x[:, 0])
        memory, state = model.encode(src[None, :length], length[None])
        for t, token in enumerate([model.vocabulary.bos_id, *tgt[: tgt_length - 1].tolist()]):
            _, state, _ = model.decoder.step(
                model.tgt_embedding(torch.tensor([token])), state, memory
            )
            for i, (h, *_) in enumerate(state.layers):
                found.setdefault(f"hidden/decoder{i}/step{t}", []).append(h[0])
    return {tag: torch.stack(states) for tag, states in found.items()}


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"input_feeding": True},
        {"encoder_layers": 2, "decoder_layers": 2},
        {"bidirectional": False},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    ("norm", "cell"),
    [
        ("none", "lstm"),
        ("batch", "lstm"),
        ("layer", "lstm"),
        ("rms", "lstm"),
        ("batch", "gru"),
        ("layer", "gru"),
        ("layer", "rnn"),
    ],
)
def test_hidden_states_are_those_of_the_layers(norm: str, cell: str, shape: dict[str, Any]) -> None:
    model = translator(norm, cell, **shape)
    expected = {
        tag: states
        for tag, states in hidden_states(model, batch()).items()
        if int(tag.rpartition("step")[2]) in STEPS
    }
    found = {}
    for tag, values in histograms(model, batch()):
        if tag.startswith("hidden"):
            assert tag not in found
            found[tag] = values
    assert found.keys() == expected.keys()
    # Late in a sentence batch norm's variance is over two rows: float32 itself is 5e-5 off there.
    tolerance = 5e-4 if norm == "batch" else 1e-4
    for tag, states in expected.items():
        same_values(found[tag], states, tolerance)


@needs_compiler
@pytest.mark.parametrize("feeding", [False, True])
def test_values_are_the_same_where_the_first_products_are_kept(feeding: bool) -> None:
    model = translator("layer", "lstm", input_feeding=feeding)
    expected = dict(histograms(model, batch()))
    with frozen(model):
        found = dict(histograms(model, batch()))
    assert found.keys() == expected.keys()
    for tag, values in expected.items():
        same_values(found[tag], values)


# -- gates ---


PLACES = ("encoder0_forward", "encoder0_backward", "decoder0")
KINDS = {
    "lstm": {"pre-activations", "gate_i", "gate_f", "gate_g", "gate_o", "hidden"},
    "gru": {"pre-activations", "gate_r", "gate_z", "gate_n", "hidden"},
    "rnn": {"pre-activations", "hidden"},
}


@pytest.mark.parametrize("cell", list(KINDS))
def test_each_gate_has_its_name_place_and_step(cell: str) -> None:
    tags = [tag for tag, _ in histograms(translator(cell=cell), batch())]
    assert len(tags) == len(set(tags))
    assert {tuple(tag.split("/")) for tag in tags} == {
        (kind, place, f"step{t}")
        for kind in KINDS[cell]
        for place in PLACES
        for t in (0, 1, 2, 5, 10)
    }


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_the_hidden_states_of_an_lstm_follow_from_its_gates(norm: str) -> None:
    """Without a norm on c, h = o tanh(c) follows from the gates of the steps so far."""
    model = translator(norm)
    found = dict(histograms(model, batch()))
    for place in PLACES:
        gates = [{gate: found[f"gate_{gate}/{place}/step{t}"] for gate in "ifgo"} for t in range(3)]
        assert all(
            (v.min() > 0 and v.max() < 1)
            for step in gates
            for gate, v in step.items()
            if gate != "g"
        )
        assert all(-1 < v.min() < 0 < v.max() < 1 for v in (step["g"] for step in gates))
        for t, step in enumerate(gates):
            sums = found[f"pre-activations/{place}/step{t}"].chunk(4, dim=1)
            for (gate, v), summed in zip(step.items(), sums, strict=True):
                torch.testing.assert_close(
                    v, (torch.tanh if gate == "g" else torch.sigmoid)(summed)
                )
        if norm == "none" and place != "decoder0":
            c = torch.zeros_like(gates[0]["i"])
            for t, step in enumerate(gates):
                c = step["f"] * c[: len(step["f"])] + step["i"] * step["g"]
                torch.testing.assert_close(
                    found[f"hidden/{place}/step{t}"], step["o"] * torch.tanh(c)
                )


def test_the_hidden_states_of_a_gru_follow_from_its_gates() -> None:
    found = dict(histograms(translator("layer", "gru"), batch()))
    for place in ("encoder0_forward", "encoder0_backward"):
        h = torch.zeros(len(batch().src), H // 2)
        for t in range(3):
            z, n = (found[f"gate_{gate}/{place}/step{t}"] for gate in "zn")
            h = (1 - z) * n + z * h[: len(z)]
            torch.testing.assert_close(found[f"hidden/{place}/step{t}"], h)


# -- nothing is disturbed ---


class Sentences(ParallelDataset):
    """A data set of five sentences, which are read as one batch."""

    def __init__(self) -> None:
        pass

    def __len__(self) -> int:
        return 5

    def batch(self, indices: NDArray[np.int64]) -> Batch:
        assert indices.tolist() == [0, 1, 2, 3, 4]
        return batch()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_mode_and_random_numbers_do_not_change(norm: str, training: bool, tmp_path: Path) -> None:
    model = translator(norm).train(training)
    before, chance = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    with Logbook(tmp_path, 0, progress=False) as logbook:
        write_histograms(logbook, model, Sentences(), Config(), 1)
    assert all(m.training is training for m in model.modules())
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not any(m._forward_pre_hooks for m in model.modules())
    assert not any(p.grad is not None for p in model.parameters())


def test_values_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    with Logbook(tmp_path, 0, progress=False) as logbook:
        logbook.histogram("none", np.array([np.nan, np.inf]), 1)
        logbook.histogram("some", np.array([np.nan, 3.0]), 1)

    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["histograms"] == ["some"]
    assert events.Histograms("some")[0].histogram_value.sum == 3.0


# -- batch norm's statistics ---


def test_statistics_are_the_stored_ones_of_each_step() -> None:
    model = translator("batch")
    layer, found = model.encoder.layers[0], stored_statistics(model)
    assert list(found) == list(PLACES)
    for place, suffix in (("encoder0_forward", "_l0"), ("encoder0_backward", "_l0_reverse")):
        assert list(found[place]) == ["ih", "hh", "c"]
        for term, moments in found[place].items():
            for kind, values in zip(("mean", "var"), moments, strict=True):
                stored = getattr(layer, f"running_{kind}_{term}{suffix}")[:12].numpy().copy()
                if term == "hh":
                    stored[0] = np.nan  # before the first step there is no state to multiply
                np.testing.assert_array_equal(values, stored)
    assert not np.isnan(found["decoder0"]["hh"][0]).any()


def test_statistics_as_histograms() -> None:
    found = stored_statistics(translator("batch"))
    by_tag = dict(statistics_histograms(found))
    assert len(by_tag) == 3 * 2 * (5 + 5 + 4)  # only one target has a step 10
    assert by_tag["running_var_c/encoder0_backward/step5"].shape == (H // 2,)
    np.testing.assert_array_equal(
        by_tag["running_mean_ih/decoder0/step5"], found["decoder0"]["ih"][0][5]
    )


@pytest.mark.parametrize(
    ("statistics", "steps"),
    [("per_step", [6, 6, 6]), ("shared", [1, 1, 1]), ("sequence_input", [1, 6, 6])],
)
def test_the_figure_draws_statistics_by_step(statistics: str, steps: list[int]) -> None:
    found = stored_statistics(translator("batch", statistics=statistics))
    assert [len(mean) for mean, _ in found["decoder0"].values()] == steps
    figure = statistics_figure(found)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        f"{place} {term}" for place in PLACES for term in ("ih", "hh", "c")
    ]
    for axes, number in zip(figure.axes, (0, 1), strict=True):
        lines = {line.get_label(): line for line in axes.lines}
        for place, terms in found.items():
            for term, moments in terms.items():
                values = moments[number]
                expected = np.sqrt((values**2).mean(1)) if number == 0 else values.mean(1)
                np.testing.assert_allclose(
                    np.asarray(lines[f"{place} {term}"].get_ydata()), expected
                )
                assert np.asarray(lines[f"{place} {term}"].get_xdata()).tolist() == list(
                    range(len(values))
                )


def test_other_norms_have_no_statistics() -> None:
    assert stored_statistics(translator("layer")) == {}
