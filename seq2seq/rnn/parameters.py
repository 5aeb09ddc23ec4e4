"""Parameters of recurrent layers and cells: names, shapes, initial values, and views as terms."""

import math
import operator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from .backends import check_backend
from .config import CellNorm, NormConfig, NormGroup, NormKind, Statistics, Terms, norm_config
from .cpu.frozen import Freezable
from .cpu.one_step import CellSteps
from .cpu.step_loops import Stepwise
from .normalization import Term
from .packing import Steps
from .reference import CellParameters
from .statistics import BatchStatistics, Pool
from .tracking import RunningStatistics


class RecurrentParameters(Freezable, Stepwise):
    """Parameters of recurrent layers and cells, and batch norm's running statistics as buffers.

    Names end in a suffix for the layer and direction: _l0, _l0_reverse, _l1, ...; a cell's is
    empty. With input size I (above the first layer H * directions), hidden size H and G gates:

        weight_ih (G * H, I), weight_hh (G * H, H)
        bias_ih, bias_hh (G * H,)       unless bias=False
        gain_ih, gain_hh (G * H,)       with a norm; no gain_hh where terms are joint, except for
                                        the n part of the GRU, (H,)
        gain_c, bias_c (H,)             where the LSTM's cell state is normalised

    With batch norm, for each term (ih, hh, c) of F features and S places: norm.max_steps, or 1 with
    statistics=shared, and for ih with statistics=sequence_input:

        running_mean_ih (S, F), running_var_ih (S, F), num_updates_ih (S,)
        steps_seen ()                   of all terms: the time steps that have statistics
    """

    cell: str
    gates: int
    nonlinearity = "tanh"

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool, norm: str | NormConfig, backend: str
    ) -> None:
        super().__init__()
        check_backend(backend)
        norm = norm_config(norm)
        if norm.cell not in (CellNorm.output, CellNorm.none) and self.cell != "lstm":
            raise ValueError(
                f"norm.cell={norm.cell.value}: a {self.cell.upper()} has no cell state to"
                " normalise; expected output or none"
            )
        if norm.cell_gain is not None and self.cell != "lstm":
            raise ValueError(
                f"norm.cell_gain={norm.cell_gain}: a {self.cell.upper()} has no cell state to"
                " normalise; expected null"
            )
        if norm.terms is Terms.joint_all and self.cell != "gru":
            raise ValueError(
                f"norm.terms=joint_all: an {self.cell.upper()} has no n part; expected joint"
            )
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self.norm, self.backend = norm, backend
        self.sequence_input = norm.statistics is Statistics.sequence_input  # a term of its own
        default = Terms.joint if self.cell == "rnn" and not self.sequence_input else Terms.separate
        joint = (norm.terms or default) is not Terms.separate
        self.joint = joint and norm.kind is not NormKind.none
        self._names: set[str] = set()
        self._by_batch = False
        self.pools: dict[str, Pool] = {}
        if norm.kind is NormKind.batch:
            self.running_statistics = RunningStatistics(self)
        self._steps: dict[str, CellSteps] = {}
        self._parts = self.terms()

    def terms(self) -> dict[str, list[int]]:
        """Return each normalised term with the lengths of its parts.

        Layer and rms norm normalise the parts separately.
        """
        if self.norm.kind is NormKind.none:
            return {}
        hidden = self.hidden_size
        parts = [2 * hidden, hidden] if self.cell == "gru" else [self.gates * hidden]
        if self.norm.terms is Terms.joint_all:
            parts = [3 * hidden]
        if self.norm.group is NormGroup.gate:
            parts = [hidden] * self.gates
        terms = {"ih": parts}
        if not self.joint:
            terms["hh"] = parts
        elif self.cell == "gru" and self.norm.terms is Terms.joint:
            terms["hh"] = [hidden]  # its n part stays separate
        if self.cell == "lstm" and self.norm.cell is not CellNorm.none:
            terms["c"] = [hidden]
        return terms

    def _add_parameters(self, suffix: str, inputs: int, device: Any, dtype: Any) -> None:
        """Add the parameters of one layer and direction; `reset_parameters` gives them values."""
        rows, hidden = self.gates * self.hidden_size, self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, inputs),
            "weight_hh": (rows, hidden),
        }
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        shapes |= {f"gain_{term}": (sum(parts),) for term, parts in self.terms().items()}
        if self.bias and "gain_c" in shapes:
            shapes["bias_c"] = (hidden,)
        for name, shape in shapes.items():
            parameter = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
            self.register_parameter(name + suffix, parameter)
            self._names.add(name + suffix)
        if self.norm.kind is NormKind.batch:
            self._add_statistics(suffix, device, dtype)

    def _add_statistics(self, suffix: str, device: Any, dtype: Any) -> None:
        """Add the buffers of one layer and direction."""
        for term, parts in self.terms().items():
            whole_sequence = self.sequence_input and term == "ih"
            one_pair = whole_sequence or self.norm.statistics is Statistics.shared
            steps = 1 if one_pair else self.norm.max_steps
            mean = torch.zeros(steps, sum(parts), device=device, dtype=dtype)
            self.register_buffer(f"running_mean_{term}{suffix}", mean)
            self.register_buffer(f"running_var_{term}{suffix}", torch.ones_like(mean))
            updates = mean.new_zeros(steps, dtype=torch.long)
            self.register_buffer(f"num_updates_{term}{suffix}", updates)
        self.register_buffer(f"steps_seen{suffix}", torch.tensor(0, device=device))

    def reset_parameters(self) -> None:
        """Draw weights and biases uniformly within 1/sqrt(H), as torch.nn does; reset the norm."""
        bound = 1 / math.sqrt(self.hidden_size)
        for name, parameter in self.named_parameters():
            if not is_norm_parameter(name):
                nn.init.uniform_(parameter, -bound, bound)
        self.reset_norm()

    def reset_norm(self) -> None:
        """Set gains to norm.gain and norm.cell_gain, bias_c to 0, statistics as before training."""
        for name, parameter in self.named_parameters():
            own = tensor_name(name)
            if own.startswith("gain_c"):
                nn.init.constant_(parameter, self.norm.initial_cell_gain)
            elif own.startswith("gain_"):
                nn.init.constant_(parameter, self.norm.initial_gain)
            elif is_norm_parameter(name):
                nn.init.zeros_(parameter)
        self.reset_statistics()

    def reset_statistics(self) -> None:
        """Set batch norm's statistics to those before any training."""
        for name, buffer in self.named_buffers(recurse=False):
            buffer.fill_(1.0 if name.startswith("running_var") else 0)

    def set_momentum(self, momentum: float) -> None:
        """Set norm.momentum of this layer; others may have the same settings."""
        self.norm = replace(self.norm, momentum=momentum)

    def pool_statistics(self, *, stores: bool = False) -> None:
        """Collect the statistics of the batches to come in `pools`, instead of averaging them.

        `stores`: each call also makes those collected so far the running ones.
        """
        kind = "running_mean_"
        names = [n for n, _ in self.named_buffers(recurse=False) if n.startswith(kind)]
        self.pools = {n.removeprefix(kind): Pool(self.get_buffer(n), stores) for n in names}

    def store_pools(self) -> None:
        """Make the statistics that were collected the running ones; end the collection."""
        for name in self.pools:
            term = name.partition("_")[0]
            statistics = self._statistics(term, name.removeprefix(term))
            assert statistics is not None
            statistics.store_pool()
        self.pools = {}

    def trains_statistics(self) -> bool:
        """Return whether batch norm is in training mode, here and in `running_statistics`."""
        return self.training and self.running_statistics.training

    def kept(self) -> dict[Any, Any] | None:
        """Return what `frozen` keeps; None also while batch norm uses the batches' statistics."""
        return None if self._by_batch else super().kept()

    def cell_parameters(self, suffix: str, table: Tensor | None = None) -> CellParameters:
        """Return the parameters of one layer and direction, as the equations take them.

        `table`: of input terms, whose rows the inputs are, also within `stepwise`.
        """
        kept = self.kept()
        found: CellParameters | None = None if kept is None else kept.get(suffix)
        if found is None:
            found = self._cell_parameters(suffix, None if kept is None else {})
            if kept is not None:
                kept[suffix] = found
        return found if table is None else replace(found, table=table, steps=None)

    def _tensor(self, name: str) -> Any:
        """Return a parameter, or what has taken its place; None where the module has none.

        nn.Module's own search takes several microseconds, and more for what is missing.
        """
        found = self._parameters.get(name)
        return getattr(self, name) if found is None and name in self._names else found

    def _buffer(self, name: str) -> Tensor:
        """Return a buffer, as fast as `_tensor`."""
        found = self._buffers[name]
        assert found is not None
        return found

    def _cell_parameters(self, suffix: str, kept: dict[torch.dtype, Any] | None) -> CellParameters:
        bias_hh = self._tensor(f"bias_hh{suffix}")
        return CellParameters(
            self.cell,
            weight_ih=self._tensor(f"weight_ih{suffix}"),
            weight_hh=self._tensor(f"weight_hh{suffix}"),
            bias_hh=0.0 if bias_hh is None else bias_hh,
            ih=self._term("ih", suffix),
            hh=self._term("hh", suffix),
            c=self._term("c", suffix),
            joint=self.joint,
            joint_all=self.norm.terms is Terms.joint_all,
            carried=self.norm.cell in (CellNorm.carried, CellNorm.carried_only),
            carried_only=self.norm.cell is CellNorm.carried_only,
            activation=getattr(torch, self.nonlinearity),
            steps=self._steps.get(suffix),
            kept=kept,
        )

    def _term(self, name: str, suffix: str) -> Term:
        gain, bias = (self._tensor(f"{kind}_{name}{suffix}") for kind in ("gain", "bias"))
        if gain is None:
            return Term(bias=bias)
        if bias is not None and bias.size(0) != gain.size(0):  # the n part of a joint GRU
            bias = bias[-gain.size(0) :]
        parts, statistics = self._parts[name], self._statistics(name, suffix)
        return Term(self.norm.kind.value, gain, bias, self.norm.eps, parts, statistics)

    def _statistics(self, term: str, suffix: str) -> BatchStatistics | None:
        """Return a term's statistics for one call; None without batch norm."""
        if self.norm.kind is not NormKind.batch:
            return None
        mean, var, updates = (
            self._buffer(f"{kind}_{term}{suffix}")
            for kind in ("running_mean", "running_var", "num_updates")
        )
        steps_seen, trains = self._buffer(f"steps_seen{suffix}"), self.trains_statistics()
        return BatchStatistics(
            mean,
            var,
            updates,
            steps_seen,
            last=last_place(steps_seen, updates),
            norm=self.norm,
            use_batch=trains or self._by_batch,
            update=trains and not self._by_batch,
            whole_sequence=self.sequence_input and term == "ih",
            pool=self.pools.get(term + suffix),
        )

    def _checked_steps(self, first_step: Steps, steps: int, batch: int) -> Steps:
        """Return first_step, checked; 0 for numbers (B,) that have no effect."""
        norm = self.norm
        keeps = norm.kind is NormKind.batch and norm.statistics is not Statistics.shared
        if isinstance(first_step, Tensor):
            check_first_step(first_step, batch)
            if keeps and (self.trains_statistics() or self._by_batch):
                raise ValueError(
                    "first_step has a number for each sequence: batch norm takes the rows of one"
                    " step together in training; expected an int, or eval mode"
                )
            return first_step if keeps else 0
        if not isinstance(first_step, (int, torch.SymInt)):
            first_step = whole_number(first_step)
        if first_step < 0:
            raise ValueError(f"first_step={first_step}: expected a time step, 0 or later")
        steps += first_step
        if keeps and (self.trains_statistics() or self.pools) and steps > norm.max_steps:
            raise ValueError(
                f"input has {steps} time steps, but batch norm keeps statistics for"
                f" norm.max_steps={norm.max_steps}: train on shorter sequences or raise max_steps"
            )
        return first_step


def last_place(steps_seen: Tensor, updates: Tensor) -> int | Tensor:
    """Return the last place that has statistics; without any it is the first one.

    updates (S,) are the updates of each place. They decide where there are more of them than steps
    seen: a moving average of buffers, as by AveragedModel, rounds both down.
    """
    places = updates.size(0)
    functional = torch._C._are_functorch_transforms_active() or torch.compiler.is_compiling()
    has_values = type(updates) is Tensor and updates.device.type == "cpu"  # no GPU is waited for
    if functional or not has_values:
        numbers = torch.arange(1, places + 1, device=updates.device)
        updated = torch.where(updates > 0, numbers, 0).amax(0)
        return torch.maximum(steps_seen, updated).clamp(1, places) - 1
    seen = min(places, max(int(steps_seen), 1))
    if seen < places and updates[seen]:
        seen = int(updates.nonzero()[-1]) + 1
    return seen - 1


def whole_number(first_step: Any) -> int:
    """Return a time step, such as numpy's, as an int; raise ValueError for what is none."""
    try:
        return operator.index(first_step)
    except TypeError:
        raise ValueError(
            f"first_step={first_step!r}: expected an int, or whole numbers, one for each sequence"
        ) from None


def check_first_step(steps: Tensor, batch: int) -> None:
    """Raise ValueError unless these are time steps (B,). A GPU is not waited for, to see them."""
    if steps.shape != (batch,) or steps.dtype not in (torch.int32, torch.int64):
        raise ValueError(
            f"first_step is {steps.dtype} of shape {tuple(steps.shape)}: expected an int, or whole"
            f" numbers of shape {(batch,)}, one for each sequence"
        )
    if torch.compiler.is_compiling() or steps.device.type != "cpu" or not batch:
        return
    if (lowest := int(steps.min())) < 0:
        raise ValueError(f"first_step has {lowest}: expected time steps, 0 or later")


def is_norm_parameter(name: str) -> bool:
    """Return whether a parameter of this name is a gain or bias_c, which start at constants."""
    own = tensor_name(name)
    return own == "bias_c" or own.startswith(("gain_", "bias_c_"))


def tensor_name(name: str) -> str:
    """Return what a layer calls a parameter that has this name in a model, parametrized or not."""
    _, parametrized, own = name.rpartition("parametrizations.")
    return own.partition(".")[0] if parametrized else name.rpartition(".")[2]
