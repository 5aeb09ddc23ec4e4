"""LSTM, GRU and RNN with batch, layer or rms norm in the cell: drop-ins for torch.nn's.

    from seq2seq.rnn import LSTM
    rnn = LSTM(input_size, hidden_size, norm="layer")
    output, (h_n, c_n) = rnn(input)

Needs torch alone. The equations are in `seq2seq/rnn/reference.py`, the norms in
`seq2seq/rnn/normalization.py`.
"""

import math
from itertools import product
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from .backends import (
    BatchStatistics,
    CellParameters,
    Pool,
    State,
    Term,
    check_backend,
    fused_serves,
    recurrence,
)
from .config import (
    DEFAULT_GAIN,
    CellNorm,
    NormConfig,
    NormGroup,
    NormKind,
    Statistics,
    Terms,
    norm_config,
)
from .packing import flipped_rows


class RecurrentLayers(nn.Module):
    """Parameters, stacking, directions and packed sequences: what LSTM, GRU and RNN share.

    input_size I, hidden_size H, gates G: weight_ih_l0 (G*H, I or D*H above the first layer),
    weight_hh_l0 (G*H, H), bias_ih_l0, bias_hh_l0 (G*H,); with a norm gain_ih_l0, gain_hh_l0 (G*H,);
    for the LSTM gain_c_l0, bias_c_l0 (H,). bias=False leaves out every additive parameter. Suffixes
    _l1, _reverse as in torch.nn.LSTM.

    In eval mode without gradients the fused kernels keep the weights as their products read them,
    until train(), eval(), .to() or loading, or until a parameter is written to. A write past
    autograd's eyes, to `parameter.data`, goes unseen: call eval() after it.
    """

    cell: str
    gates: int
    default_terms = Terms.separate

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
        super().__init__()
        for name, size in (
            ("input_size", input_size),
            ("hidden_size", hidden_size),
            ("num_layers", num_layers),
        ):
            if size < 1:
                raise ValueError(f"{name}={size}: expected at least 1")
        if not 0 <= dropout <= 1:
            raise ValueError(f"dropout={dropout}: expected a probability from 0 to 1")
        if proj_size:
            raise ValueError(f"proj_size={proj_size}: projections are not supported; expected 0")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.bidirectional = (
            bias,
            batch_first,
            dropout,
            bidirectional,
        )
        self.proj_size = 0
        self.norm = norm_config(norm)
        check_backend(backend)
        self.backend = backend
        self.joint = self._terms() is Terms.joint and self.norm.kind is not NormKind.none
        self._by_batch = False
        self._pools: dict[str, Pool] = {}
        self._kept: dict[str, dict[torch.dtype, Any]] = {}
        for suffix in self.suffixes():
            layer = int(suffix.removesuffix("_reverse").removeprefix("_l"))
            inputs = input_size if layer == 0 else hidden_size * self.num_directions
            self._add_parameters(suffix, inputs, {"device": device, "dtype": dtype})
        self.reset_parameters()
        if backend == "fused":
            fused_serves(self.cell, self.cell_parameters("_l0"), required=True)

    # -- parameters ---

    @property
    def num_directions(self) -> int:
        """2 if bidirectional."""
        return 2 if self.bidirectional else 1

    def suffixes(self) -> list[str]:
        """Name endings of the layers and directions, in torch's order."""
        directions = ["", "_reverse"][: self.num_directions]
        return [
            f"_l{layer}{direction}" for layer in range(self.num_layers) for direction in directions
        ]

    def _terms(self) -> Terms:
        """The cell's default where none are asked for; sequence_input knows only separate ones."""
        if self.norm.terms is None and self.norm.statistics is Statistics.sequence_input:
            return Terms.separate
        return self.norm.terms or self.default_terms

    def _normalises_cell(self) -> bool:
        return (
            self.cell == "lstm"
            and self.norm.kind is not NormKind.none
            and self.norm.cell is not CellNorm.none
        )

    def term_sizes(self) -> dict[str, int]:
        """Lengths of the normalised terms: ih, hh where terms are separate (in the joint GRU its n
        part), c.
        """
        if self.norm.kind is NormKind.none:
            return {}
        sizes = {"ih": self.gates * self.hidden_size}
        if not self.joint:
            sizes["hh"] = self.gates * self.hidden_size
        elif self.cell == "gru":
            sizes["hh"] = self.hidden_size
        if self._normalises_cell():
            sizes["c"] = self.hidden_size
        return sizes

    def _add_parameters(self, suffix: str, inputs: int, options: dict[str, Any]) -> None:
        rows = self.gates * self.hidden_size

        def parameter(name: str, *shape: int) -> None:
            self.register_parameter(name + suffix, nn.Parameter(torch.empty(*shape, **options)))

        parameter("weight_ih", rows, inputs)
        parameter("weight_hh", rows, self.hidden_size)
        if self.bias:
            parameter("bias_ih", rows)
            parameter("bias_hh", rows)
        for term, size in self.term_sizes().items():
            parameter(f"gain_{term}", size)
            if term == "c" and self.bias:
                parameter("bias_c", size)
            if self.norm.kind is NormKind.batch:
                self._add_statistics(term, suffix, size, options)
        if self.norm.kind is NormKind.batch:
            self.register_buffer("steps_seen" + suffix, torch.tensor(0, device=options["device"]))

    def _whole_sequence(self, term: str) -> bool:
        return term == "ih" and self.norm.statistics is Statistics.sequence_input

    def _add_statistics(self, term: str, suffix: str, size: int, options: dict[str, Any]) -> None:
        one_pair = self.norm.statistics is Statistics.shared or self._whole_sequence(term)
        steps = 1 if one_pair else self.norm.max_steps
        self.register_buffer(f"running_mean_{term}{suffix}", torch.zeros(steps, size, **options))
        self.register_buffer(f"running_var_{term}{suffix}", torch.ones(steps, size, **options))
        counts = torch.zeros(steps, dtype=torch.long, device=options["device"])
        self.register_buffer(f"num_updates_{term}{suffix}", counts)

    def reset_parameters(self) -> None:
        """Weights and biases as torch.nn.LSTM's, uniform within 1/sqrt(H); gains as `norm.gain`,
        bias_c 0.
        """
        bound = 1 / math.sqrt(self.hidden_size)
        for name, parameter in self.named_parameters():
            if not is_norm_parameter(name):
                nn.init.uniform_(parameter, -bound, bound)
        self.reset_norm()

    def reset_norm(self) -> None:
        """Gains, cell shift and statistics as before any training."""
        kind = self.norm.kind
        for name, parameter in self.named_parameters():
            if name.startswith("gain_"):
                nn.init.constant_(
                    parameter, DEFAULT_GAIN[kind] if self.norm.gain is None else self.norm.gain
                )
            elif name.startswith("bias_c_"):
                nn.init.zeros_(parameter)
        for name, buffer in self.named_buffers():
            buffer.fill_(1.0 if name.startswith("running_var") else 0)

    def _store_pools(self) -> None:
        """Make what the pools hold the running statistics."""
        for suffix, term in product(self.suffixes(), self.term_sizes()):
            counted, mean, var = self._pools[term + suffix].result()
            running_mean, running_var = (
                self._own("running_mean", term, suffix),
                self._own("running_var", term, suffix),
            )
            running_mean[counted] = mean[counted].to(running_mean.dtype)
            running_var[counted] = var[counted].to(running_var.dtype)
            self._own("num_updates", term, suffix)[counted] += 1
            steps_seen = getattr(self, "steps_seen" + suffix)
            steps_seen.fill_(max([int(steps_seen), *(counted.nonzero().flatten() + 1).tolist()]))

    # -- what backends keep of the parameters, in eval mode without gradients ---

    def train(self, mode: bool = True) -> Self:
        """As of every module; what was kept of the parameters is made anew."""
        self._kept = {}
        return super().train(mode)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._kept = {}
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def _load_from_state_dict(self, *arguments: Any, **keywords: Any) -> None:
        self._kept = {}
        super()._load_from_state_dict(*arguments, **keywords)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": {}}

    def flatten_parameters(self) -> None:
        """Nothing to do: kept for programs written for torch.nn.LSTM."""

    # -- one layer and direction ---

    def _segments(self, size: int) -> list[int]:
        """Parts of a term that are normalised apart: one, or the gates; the GRU's n part always by
        itself.
        """
        if self.norm.group is NormGroup.gate:
            return [self.hidden_size] * (size // self.hidden_size)
        if self.cell == "gru" and size == 3 * self.hidden_size:
            return [2 * self.hidden_size, self.hidden_size]
        return [size]

    def _own(self, kind: str, name: str, suffix: str) -> Any:
        """A parameter or buffer such as gain_ih_l0; None where this configuration has none."""
        return getattr(self, f"{kind}_{name}{suffix}", None)

    def _term(self, name: str, suffix: str) -> Term:
        gain, bias = self._own("gain", name, suffix), self._own("bias", name, suffix)
        if gain is None:
            return Term("none", None, bias, 0.0, [])
        if bias is not None and bias.size(0) != gain.size(0):  # the n part of a joint GRU
            bias = bias[-gain.size(0) :]
        statistics = self._statistics(name, suffix) if self.norm.kind is NormKind.batch else None
        return Term(
            self.norm.kind.value,
            gain,
            bias,
            self.norm.eps,
            self._segments(gain.size(0)),
            statistics,
        )

    def _statistics(self, name: str, suffix: str) -> BatchStatistics:
        return BatchStatistics(
            self._own("running_mean", name, suffix),
            self._own("running_var", name, suffix),
            self._own("num_updates", name, suffix),
            self.norm.momentum,
            self.norm.min_rows,
            steps_seen=int(getattr(self, "steps_seen" + suffix)),
            use_batch=self.training or self._by_batch,
            update=self.training and not self._by_batch,
            whole_sequence=self._whole_sequence(name),
            pool=self._pools.get(name + suffix),
        )

    def cell_parameters(self, suffix: str) -> CellParameters:
        """What the equations take of one layer and direction, named by its suffix, as in
        _l0_reverse.
        """
        changing = self.training or torch.is_grad_enabled() or torch.compiler.is_compiling()
        return CellParameters(
            weight_ih=getattr(self, "weight_ih" + suffix),
            weight_hh=getattr(self, "weight_hh" + suffix),
            bias_hh=getattr(self, "bias_hh" + suffix, None),
            ih=self._term("ih", suffix),
            hh=self._term("hh", suffix),
            c=self._term("c", suffix) if self._normalises_cell() else None,
            joint=self.joint,
            carried=self.norm.cell is CellNorm.carried and self._normalises_cell(),
            kept=None if changing else self._kept.setdefault(suffix, {}),
        )

    def _run(
        self, suffix: str, x: Tensor, batch_sizes: list[int], state: State | None, first_step: int
    ) -> tuple[Tensor, State]:
        """One layer and direction over packed x (N, I)."""
        parameters = self.cell_parameters(suffix)
        if state is None and len(batch_sizes) == 1 and self.norm.kind is NormKind.none:
            zeros = parameters.weight_hh.new_zeros(batch_sizes[0], self.hidden_size)
            state = (
                (zeros, zeros) if self.cell == "lstm" else (zeros,)
            )  # weight_hh.grad is 0, as torch.nn's, not None
        flip = flipped_rows(batch_sizes, x.device) if suffix.endswith("_reverse") else None
        if flip is not None:
            x = x.index_select(0, flip)
        output, last = recurrence(
            self.backend, self.cell, x, batch_sizes, state, parameters, first_step
        )
        if flip is not None:
            output = output.index_select(0, flip)
        terms = (parameters.ih, parameters.hh, parameters.c)
        statistics = [
            term.statistics for term in terms if term is not None and term.statistics is not None
        ]
        seen = [s.finish() for s in statistics]
        if statistics and statistics[0].update:
            getattr(self, "steps_seen" + suffix).fill_(max(seen))
        return output, last

    # -- all of them ---

    def _run_packed(
        self, x: Tensor, batch_sizes: list[int], state: State | None, first_step: int
    ) -> tuple[Tensor, State]:
        """Packed x (N, I); state, each (L*D, B, H), or None -> packed output (N, D*H), and the last
        states.
        """
        if first_step < 0:
            raise ValueError(f"first_step={first_step}: expected a time step, 0 or later")
        self._check_steps(len(batch_sizes) + first_step)
        last: list[State] = []
        for layer in range(self.num_layers):
            outputs = []
            for direction in ["", "_reverse"][: self.num_directions]:
                initial = None if state is None else tuple(s[len(last)] for s in state)
                output, final = self._run(
                    f"_l{layer}{direction}", x, batch_sizes, initial, first_step
                )
                outputs.append(output)
                last.append(final)
            x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)
            if self.dropout and layer < self.num_layers - 1:
                x = F.dropout(x, self.dropout, self.training)
        return x, tuple(torch.stack(parts) for parts in zip(*last, strict=True))

    def _check_steps(self, steps: int) -> None:
        config = self.norm
        keeps_steps = config.kind is NormKind.batch and config.statistics is not Statistics.shared
        if keeps_steps and (self.training or self._pools) and steps > config.max_steps:
            raise ValueError(
                f"input has {steps} time steps, but batch norm keeps statistics for norm.max_steps="
                f"{config.max_steps}: train on shorter sequences or raise max_steps"
            )

    def _check_input(self, x: Tensor, dims: tuple[int, ...]) -> None:
        if x.dim() not in dims:
            raise ValueError(
                f"input has shape {tuple(x.shape)}: expected {' or '.join(map(str, dims))}"
                " dimensions"
            )
        if x.size(-1) != self.input_size:
            raise ValueError(
                f"input has {x.size(-1)} features: expected input_size={self.input_size}"
            )
        if 0 in x.shape[:-1]:
            raise ValueError(
                f"input has shape {tuple(x.shape)}: expected at least one step and one row"
            )

    def _state_tuple(self, hx: Any, batch: int | None) -> State | None:
        """(h_0,) or (h_0, c_0), each (L*D, B, H), from the caller's hx; batch None: unbatched."""
        if hx is None:
            return None
        names = ("h_0", "c_0") if self.cell == "lstm" else ("h_0",)
        state: State = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        if len(state) != len(names):
            raise ValueError(
                f"hx: {len(state)} tensors came, expected {len(names)}: {', '.join(names)}"
            )
        shape = (
            self.num_layers * self.num_directions,
            *([] if batch is None else [batch]),
            self.hidden_size,
        )
        for name, s in zip(names, state, strict=True):
            if s.shape != shape:
                raise ValueError(f"{name} has shape {tuple(s.shape)}: expected {shape}")
        return state if batch is not None else tuple(s.unsqueeze(1) for s in state)

    def forward(
        self, input: Tensor | PackedSequence, hx: Any = None, *, first_step: int = 0
    ) -> tuple[Any, Any]:
        """Run over a whole sequence, as torch.nn's layer does.

        input: (T, B, I), (B, T, I) with batch_first, (T, I), or a PackedSequence. hx: (h_0, c_0)
        for the LSTM, else h_0, each (L*D, B, H). first_step: the time step of the first input,
        where a sequence is fed in parts. Returns output (..., D*H) in the input's layout, and the
        last state.
        """
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx, first_step)
        self._check_input(input, (2, 3))
        batched = input.dim() == 3
        x = input if batched else input.unsqueeze(1)
        if batched and self.batch_first:
            x = x.transpose(0, 1)
        steps, batch = x.size(0), x.size(1)
        state = self._state_tuple(hx, batch if batched else None)
        output, last = self._run_packed(
            x.reshape(steps * batch, -1), [batch] * steps, state, first_step
        )
        output = output.view(steps, batch, -1)
        if not batched:
            return output.squeeze(1), self._hx(tuple(s.squeeze(1) for s in last))
        return output.transpose(0, 1) if self.batch_first else output, self._hx(last)

    def _forward_packed(
        self, packed: PackedSequence, hx: Any, first_step: int
    ) -> tuple[PackedSequence, Any]:
        self._check_input(packed.data, (2,))
        sizes = packed.batch_sizes.tolist()
        state = self._state_tuple(hx, sizes[0])
        if state is not None and packed.sorted_indices is not None:
            state = tuple(s.index_select(1, packed.sorted_indices) for s in state)
        data, last = self._run_packed(packed.data, sizes, state, first_step)
        if packed.unsorted_indices is not None:
            last = tuple(s.index_select(1, packed.unsorted_indices) for s in last)
        output = PackedSequence(
            data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices
        )
        return output, self._hx(last)

    def _hx(self, state: State) -> Any:
        return state if self.cell == "lstm" else state[0]

    def extra_repr(self) -> str:
        """Sizes and what differs from the defaults."""
        shown = {
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0.0,
            "bidirectional": False,
        }
        changed = [f", {k}={getattr(self, k)}" for k, v in shown.items() if getattr(self, k) != v]
        return (
            f"{self.input_size}, {self.hidden_size}{''.join(changed)}, norm={self.norm.kind.value}"
        )


class LSTM(RecurrentLayers):
    """torch.nn.LSTM with a norm in its cell: gates i f g o, `lstm_step` in rnn/reference.py."""

    cell = "lstm"
    gates = 4


class GRU(RecurrentLayers):
    """torch.nn.GRU with a norm in its cell: gates r z n, `gru_step` in rnn/reference.py."""

    cell = "gru"
    gates = 3


class RNN(RecurrentLayers):
    """torch.nn.RNN with a norm in its cell: `rnn_step` in rnn/reference.py. nonlinearity: 'tanh' or
    'relu'.
    """

    cell = "rnn"
    gates = 1
    default_terms = Terms.joint

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        *args: Any,
        **kwargs: Any,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity={nonlinearity!r}: expected 'tanh' or 'relu'")
        self.nonlinearity = nonlinearity  # the cell's parameters are asked for while it is built
        super().__init__(input_size, hidden_size, num_layers, *args, **kwargs)

    def cell_parameters(self, suffix: str) -> CellParameters:
        """The same, and the activation."""
        parameters = super().cell_parameters(suffix)
        parameters.activation = torch.tanh if self.nonlinearity == "tanh" else torch.relu
        return parameters


def is_norm_parameter(name: str) -> bool:
    """Whether a parameter's name is a gain's, or the shift's of the normalised cell: these have
    their own start.
    """
    last = name.rpartition(".")[2]
    return last.startswith(("gain_", "bias_c_"))
