"""A naive implementation of the recurrent layers: the papers' equations, one row and step at a time.

It calls neither the operations under test nor torch's norms or cells. Autograd gives the gradients
to compare with. Sentences are a list of (length, I) tensors in any order.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence, unpack_sequence

from seq2seq.rnn import (
    GRU,
    LSTM,
    RNN,
    CellNorm,
    NormConfig,
    NormGroup,
    NormKind,
    RecurrentLayers,
    Statistics,
    Terms,
)
from seq2seq.rnn.config import MEANINGFUL

Layer = TypeVar("Layer", bound=nn.Module)
Rows = list[Tensor]
"""A vector of every row."""
Sums = list[tuple[Tensor, Tensor]]
"""The input's and the state's part of the summed inputs of every row."""
Hidden = Sequence[Tensor | None]
"""[h, c] or [h] of a row; None where there is no earlier state."""

CELLS: dict[str, Callable[..., RecurrentLayers]] = {
    "lstm": LSTM,
    "gru": GRU,
    "rnn_tanh": RNN,
    "rnn_relu": partial(RNN, nonlinearity="relu"),
}
TORCH_CELLS: dict[str, Callable[..., nn.RNNBase]] = {
    "lstm": torch.nn.LSTM,
    "gru": torch.nn.GRU,
    "rnn_tanh": torch.nn.RNN,
    "rnn_relu": partial(torch.nn.RNN, nonlinearity="relu"),
}


def config(kind: str, **options: Any) -> NormConfig:
    """Return a NormConfig from the names of its options."""
    enums: dict[str, Any] = {
        "cell": CellNorm,
        "terms": Terms,
        "group": NormGroup,
        "statistics": Statistics,
    }
    return NormConfig(
        NormKind[kind], **{k: enums[k][v] if k in enums else v for k, v in options.items()}
    )


def meaningful(kind: str, **options: Any) -> NormConfig:
    """Return a NormConfig of those options that mean something to the kind of norm."""
    return config(kind, **{k: v for k, v in options.items() if k in MEANINGFUL[NormKind[kind]]})


def randomised(layer: Layer, seed: int = 0) -> Layer:
    """Return the layer in double, with no parameter at its initial value."""
    generator = torch.Generator().manual_seed(seed)
    layer.double()
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.rand(p.shape, generator=generator, dtype=torch.double) * 2.4 - 1.2)
    return layer


def sentences_of(lengths: Sequence[int], size: int, seed: int = 1) -> list[Tensor]:
    """Return random sentences of these lengths."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, size, generator=generator, dtype=torch.double) for n in lengths]


def random_state(layer: RecurrentLayers, batch: int, seed: int = 2) -> Any:
    """Return a random h_0, or (h_0, c_0), for the layer."""
    generator = torch.Generator().manual_seed(seed)
    shape = (layer.num_layers * layer.num_directions, batch, layer.hidden_size)
    state = tuple(torch.randn(shape, generator=generator, dtype=torch.double) for _ in range(2))
    return state if layer.cell == "lstm" else state[0]


def parts(state: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors of a state: h, or h and c."""
    return [state] if isinstance(state, Tensor) else list(state)


def run(
    layer: RecurrentLayers, sentences: list[Tensor], state: Any = None
) -> tuple[list[Tensor], list[Tensor]]:
    """Run the layer on a list of sentences; return their outputs and the last states."""
    output, last = layer(pack_sequence(sentences, enforce_sorted=False), state)
    return unpack_sequence(output), parts(last)


class Oracle:
    """The expected results of `layer`, from its parameters, settings and buffers.

    `raw` collects the vectors that each term normalises: raw[term + suffix][step] is a list with
    one of every active sentence. Those of the input term with statistics=sequence_input are all at
    step 0.
    """

    def __init__(
        self,
        layer: RecurrentLayers,
        training: bool = True,
        buffers: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.cell, self.norm, self.hidden = layer.cell, layer.norm, layer.hidden_size
        self.activation = getattr(layer, "nonlinearity", "tanh")
        self.layers, self.directions = layer.num_layers, layer.num_directions
        self.training = training
        self.parameters = dict(layer.named_parameters())
        self.buffers = (
            {k: v.clone() for k, v in layer.named_buffers()} if buffers is None else buffers
        )
        self.raw: dict[str, dict[int, Rows]] = {}
        default = Terms.joint if self.cell == "rnn" and not self.whole_input() else Terms.separate
        self.joint = (
            self.norm.kind is not NormKind.none
            and (self.norm.terms or default) is not Terms.separate
        )
        self.joint_all = self.norm.terms is Terms.joint_all

    def whole_input(self) -> bool:
        return (
            self.norm.kind is NormKind.batch and self.norm.statistics is Statistics.sequence_input
        )

    def __call__(
        self, sentences: Sequence[Tensor], state: Any = None
    ) -> tuple[Sequence[Tensor], list[Tensor]]:
        """Return outputs of all sentences, and the last states h (and c), each (L * D, B, H)."""
        last: list[list[Rows]] = []
        for layer in range(self.layers):
            outputs = []
            for flip, suffix in [(False, f"_l{layer}"), (True, f"_l{layer}_reverse")][
                : self.directions
            ]:
                start = None if state is None else [list(s[len(last)]) for s in parts(state)]
                xs = [s.flip(0) for s in sentences] if flip else sentences
                ys, end = self.direction(suffix, xs, start)
                outputs.append([y.flip(0) for y in ys] if flip else ys)
                last.append(end)
            sentences = [torch.cat(ys, dim=1) for ys in zip(*outputs, strict=True)]
        return sentences, [
            torch.stack([torch.stack(s[i]) for s in last]) for i in range(len(last[0]))
        ]

    def own(self, name: str, suffix: str) -> Tensor:
        return self.parameters[name + suffix]

    def bias(self, name: str, suffix: str) -> Tensor:
        """Return a bias; zeros where the layer has none."""
        zeros = torch.zeros(4 * self.hidden, dtype=torch.double)
        return self.parameters.get(name + suffix, zeros)

    def direction(
        self, suffix: str, sentences: Sequence[Tensor], state: list[Rows] | None
    ) -> tuple[Rows, list[Rows]]:
        """Run one layer and direction over sentences that are read from their start."""
        w_ih, w_hh = self.own("weight_ih", suffix), self.own("weight_hh", suffix)
        us = [[w_ih @ x for x in sentence] for sentence in sentences]
        whole = None
        if self.whole_input():
            flat = iter(self.normalised("ih", suffix, [u for sentence in us for u in sentence], 0))
            whole = [[next(flat) for _ in sentence] for sentence in us]
        current: list[Hidden] = [
            [None, None] if state is None else [s[b] for s in state] for b in range(len(sentences))
        ]
        outputs: list[Rows] = [[] for _ in sentences]
        last: list[Rows] = [[] for _ in sentences]
        for t in range(max(map(len, sentences))):
            alive = [b for b, sentence in enumerate(sentences) if t < len(sentence)]
            hs = [current[b][0] for b in alive]
            zs = None if hs[0] is None else [w_hh @ h for h in hs if h is not None]
            given = None if whole is None else [whole[b][t] for b in alive]
            sums = self.summed_inputs(suffix, [us[b][t] for b in alive], zs, t, given)
            for b, new in zip(
                alive, self.step(suffix, sums, [current[b] for b in alive], t), strict=True
            ):
                current[b] = last[b] = new
                outputs[b].append(new[0])
        return [torch.stack(ys) for ys in outputs], [list(s) for s in zip(*last, strict=True)]

    def summed_inputs(
        self, suffix: str, us: Rows, zs: Rows | None, t: int, given: Rows | None
    ) -> Sums:
        """Return for every row the input's and the state's part of the summed inputs."""
        rows = us[0].numel()
        b_ih, b_hh = self.bias("bias_ih", suffix)[:rows], self.bias("bias_hh", suffix)[:rows]
        if not self.joint:
            ih = [y + b_ih for y in given or self.normalised("ih", suffix, us, t)]
            hh = [0 * b_hh] * len(us) if zs is None else self.normalised("hh", suffix, zs, t)
            return [(a, b + b_hh) for a, b in zip(ih, hh, strict=True)]
        # The first n numbers of a row are summed before the norm.
        n = 2 * self.hidden if self.cell == "gru" and not self.joint_all else rows
        vs = (
            us
            if zs is None
            else [torch.cat([u[:n] + z[:n], u[n:]]) for u, z in zip(us, zs, strict=True)]
        )
        ih = self.normalised("ih", suffix, vs, t)
        hh = [b_hh] * len(us)
        if zs is not None and n < rows:
            hh = [
                torch.cat([b_hh[:n], b_hh[n:] + y])
                for y in self.normalised("hh", suffix, [z[n:] for z in zs], t)
            ]
        sums = [(a + b_ih, b) for a, b in zip(ih, hh, strict=True)]
        if self.joint_all:  # all of the n part is what r acts on
            gates = (torch.arange(rows) < 2 * self.hidden).double()
            sums = [(a * gates, b + a * (1 - gates)) for a, b in sums]
        return sums

    def step(self, suffix: str, sums: Sums, states: list[Hidden], t: int) -> list[Rows]:
        """Return the new [h, c] or [h] of every row."""
        return {"lstm": self.lstm, "gru": self.gru, "rnn": self.rnn}[self.cell](
            suffix, sums, states, t
        )

    def lstm(self, suffix: str, sums: Sums, states: list[Hidden], t: int) -> list[Rows]:
        gates = [(a + b).split(self.hidden) for a, b in sums]
        cs = [
            torch.sigmoid(f) * (0 if c is None else c) + torch.sigmoid(i) * torch.tanh(g)
            for (i, f, g, _), (_, c) in zip(gates, states, strict=True)
        ]
        shown = cs
        if self.norm.kind is not NormKind.none and self.norm.cell is not CellNorm.none:
            shift = self.bias("bias_c", suffix)[: self.hidden]
            shown = [y + shift for y in self.normalised("c", suffix, cs, t)]
        carried = cs
        if self.norm.cell in (CellNorm.carried, CellNorm.carried_only):
            carried = shown
        if self.norm.cell is CellNorm.carried_only:
            shown = cs
        return [
            [torch.sigmoid(gate[3]) * torch.tanh(s), c]
            for gate, s, c in zip(gates, shown, carried, strict=True)
        ]

    def gru(self, suffix: str, sums: Sums, states: list[Hidden], t: int) -> list[Rows]:
        new = []
        for (a, b), (h, *_) in zip(sums, states, strict=True):
            (r_a, z_a, n_a), (r_b, z_b, n_b) = a.split(self.hidden), b.split(self.hidden)
            r, z = torch.sigmoid(r_a + r_b), torch.sigmoid(z_a + z_b)
            new.append([(1 - z) * torch.tanh(n_a + r * n_b) + z * (0 if h is None else h)])
        return new

    def rnn(self, suffix: str, sums: Sums, states: list[Hidden], t: int) -> list[Rows]:
        return [
            [torch.tanh(a + b) if self.activation == "tanh" else (a + b).clamp(min=0)]
            for a, b in sums
        ]

    # -- the norms ---

    def normalised(self, term: str, suffix: str, vectors: Rows, t: int) -> Rows:
        """Return gain * N(v) for the vectors of one step."""
        if self.norm.kind is NormKind.none:
            return vectors
        gain = self.own(f"gain_{term}", suffix)
        if self.norm.kind is NormKind.batch:
            self.raw.setdefault(term + suffix, {})[t] = [v.detach() for v in vectors]
            return [gain * v for v in self.over_rows(term, suffix, vectors, t)]
        return [
            gain * torch.cat([self.over_features(part) for part in v.split(self.segments(len(v)))])
            for v in vectors
        ]

    def segments(self, size: int) -> list[int]:
        if self.norm.group is NormGroup.gate:
            return [self.hidden] * (size // self.hidden)
        return (
            [2 * self.hidden, self.hidden]
            if self.cell == "gru" and size > self.hidden and not self.joint_all
            else [size]
        )

    def over_features(self, v: Tensor) -> Tensor:
        mean = sum(v) / len(v) if self.norm.kind is NormKind.layer else 0
        std: Tensor = (sum((v - mean) ** 2) / len(v) + self.norm.eps) ** 0.5
        return (v - mean) / std

    def over_rows(self, term: str, suffix: str, vectors: Rows, t: int) -> Rows:
        if self.training and len(vectors) >= self.norm.min_rows:
            mean = sum(vectors) / len(vectors)
            var = sum((v - mean) ** 2 for v in vectors) / len(vectors)
        else:
            means, variances = (
                self.buffers[f"running_{x}_{term}{suffix}"] for x in ("mean", "var")
            )
            index = min(t, len(means) - 1, max(int(self.buffers["steps_seen" + suffix]) - 1, 0))
            mean, var = means[index], variances[index]
        return [(v - mean) / (var + self.norm.eps) ** 0.5 for v in vectors]
