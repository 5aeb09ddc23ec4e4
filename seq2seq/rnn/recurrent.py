"""Recurrent modules: what the layers and the cells share, from checked tensors to a recurrence."""

from typing import Any

from torch import Tensor

from .backends import fused_serves, recurrence
from .config import NormConfig, NormKind
from .cpu.one_step import cell_steps
from .cpu.step_loops import shares
from .packing import Steps
from .parameters import RecurrentParameters
from .precision import product_dtype
from .reference import State, unroll


class RecurrentModule(RecurrentParameters):
    """Base of the recurrent layers and cells: parameters by suffix, and the recurrence of each."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool, norm: str | NormConfig, backend: str
    ) -> None:
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if size < 1:
                raise ValueError(f"{name}={size}: expected at least 1")
        if self.nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity={self.nonlinearity!r}: expected 'tanh' or 'relu'")
        super().__init__(input_size, hidden_size, bias, norm, backend)

    def suffixes(self) -> list[str]:
        """Return the suffixes of the names of parameters, one for each recurrence."""
        raise NotImplementedError

    def _initialise(self) -> None:
        """Give the parameters values; raise RuntimeError if the backend asked for cannot serve."""
        self.reset_parameters()
        if self.backend == "fused":
            p = self.cell_parameters(self.suffixes()[0])
            fused_serves(self.backend, p.weight_hh.device, p)

    def begin_steps(self, batch_sizes: list[int]) -> None:
        """Prepare one call for each step, where the CPU's kernels support the case."""
        for suffix in self.suffixes():
            p = self.cell_parameters(suffix)
            dtype, device = product_dtype(p.weight_hh), p.weight_hh.device
            if shares(p.weight_hh, dtype) and fused_serves(self.backend, device, p):
                self._steps[suffix] = cell_steps(p, batch_sizes, dtype)

    def check_steps(self) -> None:
        """Raise ValueError if some of the steps have run, and not all."""
        for steps in self._steps.values():
            steps.ih.check_complete()

    def end_steps(self) -> None:
        """Forget what was prepared."""
        self._steps = {}

    def _recurrence(
        self, suffix: str, x: Tensor, batch_sizes: list[int], state: State | None, first_step: Steps
    ) -> tuple[Tensor, State]:
        """Return the output (N, H) of the packed rows x (N, I), and the last state.

        Batch norm's statistics are updated.
        """
        p = self.cell_parameters(suffix)
        if state is None and len(batch_sizes) == 1 and self.norm.kind is NormKind.none:
            # As in torch.nn, the gradient of weight_hh is then 0 and not None.
            zeros = p.weight_hh.new_zeros(batch_sizes[0], self.hidden_size)
            state = (zeros,) * len(self.state_names)
        if not len(x):  # no rows, which leave no statistics; the kernels expect some
            *_, (_, last) = unroll(x, batch_sizes, state, p, first_step)
            return last[0], last
        output, last = recurrence(self.backend, x, batch_sizes, state, p, first_step)
        for statistics in p.statistics():
            statistics.finish()
        return output, last

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the parts of an initial state."""
        return ("h_0", "c_0") if self.cell == "lstm" else ("h_0",)

    def _checked_state(self, hx: Any, shape: tuple[int, ...]) -> State:
        """Return hx as a tuple of tensors, which must all be of this shape."""
        names = self.state_names
        state: State = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        if len(state) != len(names):
            raise ValueError(f"hx has {len(state)} tensors: expected {', '.join(names)}")
        for i, (name, s) in enumerate(zip(names, state, strict=True)):
            if s.shape != shape:
                raise ValueError(
                    f"{name} has shape {tuple(s.shape)}: expected {shape}"
                    f"{self._torch_words(i, tuple(s.shape), shape)}"
                )
        return state

    def _torch_words(self, part: int, shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
        """Return what torch.nn says to this shape of a part of the state, after a semicolon."""
        return ""

    def _hx(self, state: State) -> Any:
        """Return a state as torch.nn has it: (h, c) of the LSTM, else h."""
        return state if self.cell == "lstm" else state[0]
