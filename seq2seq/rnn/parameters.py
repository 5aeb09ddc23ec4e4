"""Parameters of the recurrent layers: names, shapes, initial values, and views as terms."""

import math
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from .config import DEFAULT_GAIN, CellNorm, NormConfig, NormGroup, NormKind, Statistics, Terms
from .cpu.operands import OperandCache
from .normalization import Term
from .reference import CellParameters
from .statistics import RunningStatistics


class RecurrentParameters(RunningStatistics, OperandCache):
    """Parameters of one or more recurrent layers in one or two directions.

    Names end in a suffix for the layer and direction: _l0, _l0_reverse, _l1, ... With input size I
    (above the first layer H * directions), hidden size H and G gates:

        weight_ih (G * H, I), weight_hh (G * H, H)
        bias_ih, bias_hh (G * H,)       unless bias=False
        gain_ih, gain_hh (G * H,)       with a norm; no gain_hh where terms are joint, except for
                                        the n part of the GRU, (H,)
        gain_c, bias_c (H,)             where the LSTM's cell state is normalised
    """

    cell: str
    gates: int
    default_terms = Terms.separate

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        bidirectional: bool,
        norm: NormConfig,
        device: Any,
        dtype: Any,
    ) -> None:
        super().__init__(norm)
        if norm.cell is not CellNorm.output and self.cell != "lstm":
            raise ValueError(
                f"norm.cell={norm.cell.value}: a {self.cell.upper()} has no cell state to"
                " normalise; expected output"
            )
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.bidirectional = bias, bidirectional
        self.joint = self._terms() is Terms.joint and norm.kind is not NormKind.none
        for layer in range(num_layers):
            inputs = input_size if layer == 0 else hidden_size * self.num_directions
            for suffix in self.suffixes(layer):
                self._add_parameters(suffix, inputs, device, dtype)
                self._register_statistics(suffix, self.term_sizes(), device, dtype)
        self.reset_parameters()

    @property
    def num_directions(self) -> int:
        """2 if bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    def suffixes(self, layer: int | None = None) -> list[str]:
        """Return the suffixes of one layer, or of all layers, in torch's order."""
        layers = range(self.num_layers) if layer is None else (layer,)
        directions = ("", "_reverse")[: self.num_directions]
        return [f"_l{number}{direction}" for number, direction in product(layers, directions)]

    def term_sizes(self) -> dict[str, int]:
        """Return the length of each normalised term: ih, hh unless terms are joint, c."""
        if self.norm.kind is NormKind.none:
            return {}
        sizes = {"ih": self.gates * self.hidden_size}
        if not self.joint:
            sizes["hh"] = self.gates * self.hidden_size
        elif self.cell == "gru":
            sizes["hh"] = self.hidden_size  # its n part stays separate
        if self.cell == "lstm" and self.norm.cell is not CellNorm.none:
            sizes["c"] = self.hidden_size
        return sizes

    def terms(self) -> list[tuple[str, str]]:
        """Return each normalised term with each suffix."""
        return [(term, suffix) for suffix, term in product(self.suffixes(), self.term_sizes())]

    def _terms(self) -> Terms:
        """Return norm.terms or their default; sequence_input needs separate ones."""
        if self.norm.terms is None and self.norm.statistics is Statistics.sequence_input:
            return Terms.separate
        return self.norm.terms or self.default_terms

    def _add_parameters(self, suffix: str, inputs: int, device: Any, dtype: Any) -> None:
        rows = self.gates * self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, inputs),
            "weight_hh": (rows, self.hidden_size),
        }
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        for term, size in self.term_sizes().items():
            shapes[f"gain_{term}"] = (size,)
            if term == "c" and self.bias:
                shapes["bias_c"] = (size,)
        for name, shape in shapes.items():
            parameter = nn.Parameter(torch.empty(*shape, device=device, dtype=dtype))
            self.register_parameter(name + suffix, parameter)

    def reset_parameters(self) -> None:
        """Draw weights and biases uniformly within 1/sqrt(H), as torch.nn does; reset the norm."""
        bound = 1 / math.sqrt(self.hidden_size)
        for name, parameter in self.named_parameters():
            if not is_norm_parameter(name):
                nn.init.uniform_(parameter, -bound, bound)
        self.reset_norm()

    def reset_norm(self) -> None:
        """Set gains to norm.gain, bias_c to 0 and statistics to those before any training."""
        for name, parameter in self.named_parameters():
            if name.startswith("gain_"):
                gain = self.norm.gain
                nn.init.constant_(parameter, DEFAULT_GAIN[self.norm.kind] if gain is None else gain)
            elif name.startswith("bias_c_"):
                nn.init.zeros_(parameter)
        self._reset_statistics()

    def cell_parameters(self, suffix: str) -> CellParameters:
        """Return the parameters of one layer and direction, as the equations take them."""
        bias_hh = self._own("bias_hh", suffix)
        normalises_cell = "c" in self.term_sizes()
        return CellParameters(
            self.cell,
            weight_ih=getattr(self, "weight_ih" + suffix),
            weight_hh=getattr(self, "weight_hh" + suffix),
            bias_hh=0.0 if bias_hh is None else bias_hh,
            ih=self._term("ih", suffix),
            hh=self._term("hh", suffix),
            c=self._term("c", suffix) if normalises_cell else None,
            joint=self.joint,
            carried=normalises_cell and self.norm.cell is CellNorm.carried,
            kept=self.kept_operands(suffix),
        )

    def _own(self, name: str, suffix: str) -> Tensor | None:
        """Return a parameter such as gain_ih_l0; None if there is none of this name."""
        parameter: Tensor | None = getattr(self, name + suffix, None)
        return parameter

    def _term(self, name: str, suffix: str) -> Term:
        gain, bias = self._own(f"gain_{name}", suffix), self._own(f"bias_{name}", suffix)
        if gain is None:
            return Term("none", None, bias, 0.0, [])
        if bias is not None and bias.size(0) != gain.size(0):  # the n part of a joint GRU
            bias = bias[-gain.size(0) :]
        segments, statistics = self._segments(gain.size(0)), self._statistics(name, suffix)
        return Term(self.norm.kind.value, gain, bias, self.norm.eps, segments, statistics)

    def _segments(self, size: int) -> list[int]:
        """Return the lengths of the parts of a term that are normalised separately."""
        if self.norm.group is NormGroup.gate:
            return [self.hidden_size] * (size // self.hidden_size)
        if self.cell == "gru" and size == 3 * self.hidden_size:
            return [2 * self.hidden_size, self.hidden_size]
        return [size]


def is_norm_parameter(name: str) -> bool:
    """Return whether a parameter of this name is a gain or bias_c, which start at constants."""
    last = name.rpartition(".")[2]
    return last.startswith(("gain_", "bias_c_"))
