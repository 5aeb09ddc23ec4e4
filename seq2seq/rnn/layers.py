"""LSTM, GRU and RNN with a norm in the cell: drop-ins for the layers of torch.nn."""

import inspect
from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from .checks import (
    InputError,
    check_dropout,
    check_flags,
    check_input,
    check_sizes,
    check_state,
)
from .config import NormConfig
from .gpu.torch_functions import TorchFunctions
from .packing import Layout, Steps
from .projection import ProjectedInputs
from .reference import State, as_hx, as_state


class RecurrentLayers(ProjectedInputs, TorchFunctions):
    """Stacked layers, directions and packed sequences: what LSTM, GRU and RNN share."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        norm: str | NormConfig = "layer",
        backend: str = "auto",
    ) -> None:
        check_sizes({"num_layers": num_layers})
        check_flags({"bias": bias, "batch_first": batch_first})
        if proj_size:
            raise ValueError(f"proj_size={proj_size}: projections are not supported; expected 0")
        super().__init__(input_size, hidden_size, bias, norm, backend)
        self.num_layers, self.batch_first = num_layers, batch_first
        self.dropout = check_dropout(dropout, num_layers)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        self.num_directions = 2 if bidirectional else 1
        for layer in range(num_layers):
            inputs = input_size if layer == 0 else hidden_size * self.num_directions
            for suffix in self.suffixes(layer):
                self._add_parameters(suffix, inputs, device, dtype)
        self._initialise()
        self.flatten_parameters()

    def suffixes(self, layer: int | None = None) -> list[str]:
        """Return the suffixes of one layer, or of all layers, in torch's order."""
        layers = range(self.num_layers) if layer is None else (layer,)
        directions = ("", "_reverse")[: self.num_directions]
        return [f"_l{number}{direction}" for number, direction in product(layers, directions)]

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: Any = None,
        *,
        first_step: Steps = 0,
        projected: Tensor | None = None,
    ) -> tuple[Any, Any]:
        """Run over whole sequences.

        Args:
            input: (T, B, I), (B, T, I) with batch_first, (T, I), or a PackedSequence.
            hx: (h_0, c_0) for the LSTM, else h_0, each (L * D, B, H), or (L * D, H) for an
                unbatched input. None: no earlier state.
            first_step: Time step of the first input, where sequences are fed in parts. Batch norm
                reads its statistics there. In eval mode also whole numbers (B,), or () for an
                unbatched input: one for each sequence.
            projected: (V, D * G * H), as `project` returns it. The input is then row numbers of
                it, shaped as above without I.

        Returns:
            The output (..., D * H) in the layout of the input, and the last state, shaped as hx.
        """
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx, first_step, projected)
        input = self.checked_input(input, projected, packed=False)
        if not input.size(1 if self.batch_first and input.dim() == 3 else 0):
            raise InputError(
                "Expected sequence length to be larger than 0 in RNN: input has shape"
                f" {tuple(input.shape)}"
            )
        batched = input.dim() == 3
        x = input if batched else input.unsqueeze(1)
        if batched and self.batch_first:
            x = x.transpose(0, 1)
        elif not batched and isinstance(first_step, Tensor) and not first_step.dim():
            first_step = first_step.unsqueeze(0)
        steps, batch = x.size(0), x.size(1)
        state = self._state(hx, batch if batched else None)
        first_step = self._checked_steps(first_step, steps, batch)
        output, last = self._run(x, Layout.of_padded(steps, batch), state, first_step, projected)
        if not batched:
            return output.squeeze(1), as_hx(tuple(s.squeeze(1) for s in last))
        return output.transpose(0, 1) if self.batch_first else output, as_hx(last)

    def _forward_packed(
        self, packed: PackedSequence, hx: Any, first_step: Steps, projected: Tensor | None
    ) -> tuple[PackedSequence, Any]:
        if torch.compiler.is_exporting():
            raise ValueError("a PackedSequence cannot be exported: expected a padded tensor")
        x = self.checked_input(packed.data, projected, packed=True)
        layout = Layout.of_packed(packed.batch_sizes)
        state = self._state(hx, layout.sequences)
        if state is not None and packed.sorted_indices is not None:
            state = tuple(s.index_select(1, packed.sorted_indices) for s in state)
        first_step = self._checked_steps(first_step, layout.steps, layout.sequences)
        if isinstance(first_step, Tensor) and packed.sorted_indices is not None:
            first_step = first_step.index_select(0, packed.sorted_indices)
        data, last = self._run(x, layout, state, first_step, projected)
        if packed.unsorted_indices is not None:
            last = tuple(s.index_select(1, packed.unsorted_indices) for s in last)
        output = PackedSequence(
            data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices
        )
        return output, as_hx(last)

    def over_padded(self, input: Tensor, lengths: Tensor) -> tuple[Tensor, Any]:
        """Run over padded sequences as over packed ones, also in programs of torch.export.

        input is (T, B, I), lengths (B,) whole numbers from 1 to T. Returns the output (T, B, D * H)
        and the last states at the ends of the sequences. In a program, output on padding has no
        meaning; elsewhere it is 0. ValueError in a program with backend="fused".
        """
        if torch.compiler.is_exporting():
            if self.backend == "fused":
                raise ValueError(
                    "backend='fused': the kernels of an exported program read padding; expected"
                    " backend='auto' or 'reference' for over_padded"
                )
            check_input(input, self.input_size, self._example(), self.cell, packed=False)
            layout = Layout.of_padded(input.size(0), input.size(1), lengths)
            output, last = self._run(input, layout, None, 0)
            return output, as_hx(last)
        packed = pack_padded_sequence(input, lengths.cpu(), enforce_sorted=False)
        output, hx = self(packed)
        return pad_packed_sequence(output, total_length=input.size(0))[0], hx

    def _run(
        self,
        x: Tensor,
        layout: Layout,
        state: State | None,
        first_step: Steps,
        projected: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Return the output (N, D * H) of the last layer, and all last states, each (L * D, B, H).

        x is packed (N, I), or (T, B, I); the output likewise. state is (L * D, B, H) each, or None.
        With `projected` x is rows of it, (N, 1) or (T, B, 1).
        """
        if projected is None and self.torch_serves(x, layout):
            return self.run_by_torch(x, layout, state)
        last: list[State] = []
        for layer in range(self.num_layers):
            suffixes = self.suffixes(layer)
            initial = [
                None if state is None else tuple(s[layer * len(suffixes) + number] for s in state)
                for number in range(len(suffixes))
            ]
            tables = self.tables(None if layer else projected)
            outputs, final = self._run_layer(suffixes, x, layout, initial, first_step, tables)
            last += final
            x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)
            if self.dropout and layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        return x, tuple(torch.stack(parts) for parts in zip(*last, strict=True))

    def _run_layer(
        self,
        suffixes: list[str],
        x: Tensor,
        layout: Layout,
        states: list[State | None],
        first_step: Steps,
        tables: Sequence[Tensor | None],
    ) -> tuple[list[Tensor], list[State]]:
        """Return the output (N, H) and the last state of each direction of a layer."""
        flips = [suffix.endswith("_reverse") for suffix in suffixes]
        inputs = [layout.flipped(x) if flip else x for flip in flips]
        found = self._recurrences(suffixes, inputs, layout, states, first_step, tables)
        outputs, last = zip(*found, strict=True)
        return [
            layout.flipped(output) if flip else output
            for output, flip in zip(outputs, flips, strict=True)
        ], list(last)

    def _state(self, hx: Any, batch: int | None) -> State | None:
        """Return hx as a tuple of (L * D, B, H) tensors, checked; batch None: unbatched."""
        if hx is None:
            return None
        state = as_state(hx)
        rows = () if batch is None else (batch,)
        shape = (self.num_layers * self.num_directions, *rows, self.hidden_size)
        check_state(state, shape, self._example(), self.state_names)
        return state if batch is not None else tuple(s.unsqueeze(1) for s in state)

    def extra_repr(self) -> str:
        """Return the sizes, the settings that differ from their defaults, and the norm."""
        shown = [str(self.input_size), str(self.hidden_size)]
        defaults = inspect.signature(RecurrentLayers.__init__).parameters
        for name in ("num_layers", "bias", "batch_first", "dropout", "bidirectional"):
            if getattr(self, name) != defaults[name].default:
                shown.append(f"{name}={getattr(self, name)}")
        return ", ".join([*shown, f"norm={self.norm.kind.value}"])


class LSTM(RecurrentLayers):
    """Long short-term memory with a norm in the cell: a drop-in for torch.nn.LSTM.

    With u = W_ih x_t and z = W_hh h_{t-1}, both 4H long, and the gates i, f, g, o:

        (i f g o) = gain_ih * N(u) + bias_ih + gain_hh * N(z) + bias_hh
        c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(g)
        h_t = sigmoid(o) * tanh(gain_c * N(c_t) + bias_c)

    Source: Ba, Kiros & Hinton 2016 (arXiv:1607.06450), supplement, eqs. 20 to 22; with batch norm
    Cooijmans et al. 2016 (arXiv:1603.09025), eqs. 6 to 8. Where there is no h_0, N(z) is 0 at the
    first step.

    Args:
        input_size (int): Features I of the input.
        hidden_size (int): Features H of the hidden state.
        num_layers (int, default 1): Stacked layers L.
        bias (bool, default True): False leaves out bias_ih, bias_hh and bias_c.
        batch_first (bool, default False): Padded input and output are (B, T, features).
        dropout (float, default 0.0): Dropout probability on the output of all layers but the last.
        bidirectional (bool, default False): Two directions, D = 2; each reads a sequence without
            its padding.
        proj_size (int, default 0): Must be 0; for torch's signature.
        device, dtype: Of the parameters, as in torch.
        norm (str or NormConfig, default "layer"): "none", "batch", "layer", "rms" or all settings.
        backend (str, default "auto"): "reference" is plain torch, "fused" compiled kernels. "auto"
            takes the kernels where they support the case, or torch's own functions on a GPU.

    Input and output:
        input: (T, B, I), (B, T, I) with batch_first, (T, I), or a PackedSequence.
        (h_0, c_0), optional: each (L * D, B, H).
        output: (T, B, D * H) in the layout of the input.
        (h_n, c_n): as (h_0, c_0).

    Parameters, for layer 0 (_l0; then _l1, ..., and _l0_reverse, ... if bidirectional):
        weight_ih_l0 (4H, I), weight_hh_l0 (4H, H), bias_ih_l0 (4H,), bias_hh_l0 (4H,): as in torch.
        gain_ih_l0 (4H,), gain_hh_l0 (4H,): with a norm.
        gain_c_l0 (H,), bias_c_l0 (H,): with a norm, unless norm.cell is none.

    Raises:
        ValueError: For a setting out of range, a wrong first_step, or, as batch norm trains, more
            time steps than norm.max_steps.
        InputError (a RuntimeError and a ValueError): For an input or state of the wrong shape,
            type or device.
        RuntimeError: With backend="fused", where the kernels cannot serve.

    With norm="none" the state_dict, the outputs and all gradients are those of torch.nn.LSTM.

    Example:
        >>> rnn = LSTM(10, 20, num_layers=2, norm="layer")
        >>> output, (h_n, c_n) = rnn(torch.randn(5, 3, 10))
        >>> output.shape, h_n.shape, c_n.shape
        (torch.Size([5, 3, 20]), torch.Size([2, 3, 20]), torch.Size([2, 3, 20]))
    """

    cell = "lstm"
    gates = 4


class GRU(RecurrentLayers):
    """Gated recurrent unit with a norm in the cell: a drop-in for torch.nn.GRU.

    With u = W_ih x_t and s = W_hh h_{t-1}, both 3H long, and the gates r, z, n:

        y_ih = gain_ih * N(u) + bias_ih
        y_hh = gain_hh * N(s) + bias_hh
        (r z) = sigmoid(y_ih + y_hh)
        n = tanh(y_ih + r * y_hh)
        h_t = (1 - z) * n + z * h_{t-1}

    Layer and rms norm treat the 2H features of (r z) and the H features of n separately. Source: Ba
    et al. 2016 (arXiv:1607.06450), supplement, for the norm; torch.nn.GRU for the cell, whose reset
    gate acts on y_hh.

    Arguments, input, output and errors are those of `LSTM`, without a cell state: hx is h_0, and
    the last state is h_n. norm.cell means nothing here.

    Parameters, for layer 0 (_l0; then _l1, ..., and _l0_reverse, ... if bidirectional):
        weight_ih_l0 (3H, I), weight_hh_l0 (3H, H), bias_ih_l0 (3H,), bias_hh_l0 (3H,): as in torch.
        gain_ih_l0 (3H,), gain_hh_l0 (3H,): with a norm; gain_hh_l0 is (H,) with joint terms, and
            absent with joint_all.

    Example:
        >>> rnn = GRU(10, 20, bidirectional=True, norm="rms")
        >>> output, h_n = rnn(torch.randn(5, 3, 10))
        >>> output.shape, h_n.shape
        (torch.Size([5, 3, 40]), torch.Size([2, 3, 20]))
    """

    cell = "gru"
    gates = 3


class RNN(RecurrentLayers):
    """Vanilla recurrent network with a norm in the cell: a drop-in for torch.nn.RNN.

    With u = W_ih x_t and z = W_hh h_{t-1}, both H long:

        h_t = f(gain_ih * N(u + z) + bias_ih + bias_hh)

    Source: Ba et al. 2016 (arXiv:1607.06450), eq. 4. Terms are separate with batch norm's
    statistics=sequence_input: f(gain_ih * N(u) + bias_ih + gain_hh * N(z) + bias_hh).

    Arguments, input, output and errors are those of `LSTM`, without a cell state: hx is h_0, and
    the last state is h_n. norm.cell means nothing here. One argument more:

        nonlinearity (str, default "tanh"): f, "tanh" or "relu"; the fourth positional argument.

    Parameters, for layer 0 (_l0; then _l1, ..., and _l0_reverse, ... if bidirectional):
        weight_ih_l0 (H, I), weight_hh_l0 (H, H), bias_ih_l0 (H,), bias_hh_l0 (H,): as in torch.
        gain_ih_l0 (H,): with a norm; gain_hh_l0 (H,) too with separate terms.

    Example:
        >>> rnn = RNN(10, 20, nonlinearity="relu", norm="batch")
        >>> output, h_n = rnn(torch.randn(5, 3, 10))
        >>> output.shape, h_n.shape
        (torch.Size([5, 3, 20]), torch.Size([1, 3, 20]))
    """

    cell = "rnn"
    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        norm: str | NormConfig = "layer",
        backend: str = "auto",
    ) -> None:
        self.nonlinearity = nonlinearity
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
            norm=norm,
            backend=backend,
        )
