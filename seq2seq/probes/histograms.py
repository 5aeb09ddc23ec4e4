"""Histograms for TensorBoard: pre-activations, gates, hidden states, batch norm's statistics.

A place is a layer and direction, such as encoder0_forward. Time steps count from 0 in the order in
which a layer reads: step 0 of encoder0_backward is each sentence's last word.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ..config import Config
from ..data.batches import Batch
from ..data.dataset import ParallelDataset
from ..device import autocast
from ..model import Translator, evaluating
from ..rnn import (
    Layout,
    RecurrentLayers,
    RecurrentModule,
    State,
    Step,
    as_state,
    batch_norm_layers,
    steps,
)
from ..runs.logbook import Logbook
from .statistics_figure import Moments, statistics_figure

SENTENCES = 32
"""Number of validation sentences whose values are drawn."""
STEPS = (0, 1, 2, 5, 10, 20, 50, 100, 200)
"""Time steps that are drawn: most changes happen early."""
GATES: dict[str, dict[str, Callable[[Tensor], Tensor]]] = {
    "lstm": {"i": torch.sigmoid, "f": torch.sigmoid, "g": torch.tanh, "o": torch.sigmoid},
    "gru": {"r": torch.sigmoid, "z": torch.sigmoid, "n": torch.tanh},
    "rnn": {},
}
"""Gates by cell, in the order of its summed inputs; a vanilla RNN has none but its hidden state."""


@dataclass
class Call:
    """The arguments of one call of a recurrent layer."""

    x: Tensor
    """(N, I), packed; with `projected` rows (N, 1) of it."""
    layout: Layout
    state: State | None
    """Parts (D, B, H), D directions."""
    first_step: int
    projected: Tensor | None
    """(V, D * G * H), as `RecurrentLayers.project` returns it."""


@contextmanager
def calls(model: nn.Module) -> Iterator[dict[str, list[Call]]]:
    """Collect the calls of the recurrent layers in `model` that are made inside, by name."""
    found: dict[str, list[Call]] = {}

    def recorder(name: str) -> Callable[..., None]:
        return lambda _, arguments, keywords: found.setdefault(name, []).append(
            _call(*arguments, **keywords)
        )

    hooks = [
        layer.register_forward_pre_hook(recorder(name), with_kwargs=True)
        for name, layer in model.named_modules()
        if isinstance(layer, RecurrentLayers)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _call(
    x: Tensor | PackedSequence,
    hx: Any = None,
    first_step: int = 0,
    projected: Tensor | None = None,
) -> Call:
    """Return a call's arguments from packed input, in sorted order, or from (T, B, I)."""
    state = None if hx is None else as_state(hx)
    if isinstance(x, PackedSequence):
        rows, layout = x.data, Layout.of_packed(x.batch_sizes)
    else:
        rows, layout = x.flatten(0, 1), Layout.of_padded(x.size(0), x.size(1))
    given = rows if projected is None else rows.unsqueeze(1)
    return Call(given, layout, state, first_step, projected)


def traced(layer: RecurrentLayers, direction: int, call: Call) -> Iterator[tuple[int, Step]]:
    """Return the time steps of a call, numbered, in one direction of a single layer."""
    x, suffix, table = call.x, layer.suffixes()[direction], call.projected
    if table is not None:
        table = table.chunk(layer.num_directions, dim=1)[direction]
    if suffix.endswith("_reverse"):
        x = call.layout.flipped(x)
    state = None if call.state is None else tuple(s[direction] for s in call.state)
    parameters = layer.cell_parameters(suffix, table)
    found = steps(x, call.layout, state, parameters, call.first_step)
    return enumerate(found, call.first_step)


def write_histograms(
    logbook: Logbook,
    model: Translator,
    dataset: ParallelDataset,
    config: Config,
    update: int,
) -> None:
    """Write the histograms of a data set's first sentences, in eval mode.

    Leaves the model's mode as it was.
    """
    batch = dataset.batch(np.arange(min(SENTENCES, len(dataset)))).to(model.device)
    with evaluating(model), autocast(model.device, config.trainer.precision):
        for tag, values in histograms(model, batch):
            logbook.histogram(tag, values.float().cpu().numpy(), update)
    if statistics := stored_statistics(model):
        logbook.figure("batch_norm/by_step", statistics_figure(statistics), update)
        for tag, stored in statistics_histograms(statistics):
            logbook.histogram(tag, stored, update)


@torch.no_grad()
def histograms(model: Translator, batch: Batch) -> Iterator[tuple[str, Tensor]]:
    """Yield tags and values of one batch, teacher-forced.

    Pre-activations are the summed inputs of the nonlinearities, gates are their outputs.
    """
    with calls(model) as found:
        model(*batch.inputs)
    for name, made in found.items():
        layer = model.get_submodule(name)
        assert isinstance(layer, RecurrentLayers)
        for direction, call in ((d, call) for d in range(layer.num_directions) for call in made):
            for t, step in traced(layer, direction, call):
                if t in STEPS:
                    yield from _of_step(
                        layer.cell, f"{place(name, layer, direction)}/step{t}", step
                    )


def _of_step(cell: str, where: str, step: Step) -> Iterator[tuple[str, Tensor]]:
    values = {"pre-activations": step.summed, "hidden": step.state[0]}
    if gates := GATES[cell]:
        for (name, nonlinearity), summed in zip(
            gates.items(), step.summed.chunk(len(gates), dim=1), strict=True
        ):
            values[f"gate_{name}"] = nonlinearity(summed)
    yield from ((f"{kind}/{where}", v) for kind, v in values.items())


def place(name: str, layer: RecurrentModule, direction: int) -> str:
    """Return encoder0 for encoder.layers.0, with the direction if the layer has two."""
    short, both = name.replace(".layers.", ""), len(layer.suffixes()) > 1
    return f"{short}_{('forward', 'backward')[direction]}" if both else short


def stored_statistics(model: nn.Module) -> dict[str, dict[str, Moments]]:
    """Return batch norm's stored means and variances by place and term.

    They cover the steps seen so far; shared statistics are one step. nan marks a step without any:
    the recurrent term has none at a first step without an initial state.
    """
    return {
        place(name, layer, direction): {
            term: _moments(layer, term, suffix) for term in layer.terms()
        }
        for name, layer in batch_norm_layers(model).items()
        for direction, suffix in enumerate(layer.suffixes())
    }


def _moments(layer: RecurrentModule, term: str, suffix: str) -> Moments:
    seen = int(layer.get_buffer(f"steps_seen{suffix}"))
    updates, mean, var = (
        layer.get_buffer(f"{name}_{term}{suffix}")[:seen].cpu().numpy()
        for name in ("num_updates", "running_mean", "running_var")
    )
    none_yet = updates[:, None] == 0
    return np.where(none_yet, np.nan, mean), np.where(none_yet, np.nan, var)


def statistics_histograms(
    places: dict[str, dict[str, Moments]],
) -> Iterator[tuple[str, NDArray[np.floating]]]:
    """Yield tags, and the means or variances of all features (F,)."""
    for where, terms in places.items():
        for term, moments in terms.items():
            for kind, stored in zip(("mean", "var"), moments, strict=True):
                for t in (t for t in STEPS if t < len(stored)):
                    yield f"running_{kind}_{term}/{where}/step{t}", stored[t]
