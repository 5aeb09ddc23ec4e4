"""Recurrent modules: what the layers and the cells share, from checked tensors to a recurrence."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .backends import fused_serves, recurrences
from .checks import check_sizes
from .config import NormConfig, NormKind
from .cpu.one_step import cell_steps
from .cpu.step_loops import has_step_products
from .packing import Layout, Steps
from .parameters import RecurrentParameters
from .precision import product_dtype
from .reference import CellParameters, State, unroll
from .synchronization import AllRows, common, is_synchronized


class RecurrentModule(RecurrentParameters):
    """Base of the recurrent layers and cells: parameters by suffix, and the recurrence of each."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool, norm: str | NormConfig, backend: str
    ) -> None:
        check_sizes({"input_size": input_size, "hidden_size": hidden_size})
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
            fused_serves(self.backend, self.cell_parameters(self.suffixes()[0]))

    def begin_steps(self, batch_sizes: list[int]) -> None:
        """Prepare one call for each step, where the CPU's kernels support the case."""
        for suffix in self.suffixes():
            p = self.cell_parameters(suffix)
            dtype = product_dtype(p.weight_hh)
            if has_step_products(p.weight_hh, dtype) and fused_serves(self.backend, p):
                self._steps[suffix] = cell_steps(p, batch_sizes, dtype)

    def check_steps(self) -> None:
        """Raise ValueError if some of the steps have run, and not all."""
        for steps in self._steps.values():
            steps.ih.check_complete()

    def end_steps(self) -> None:
        """Forget what was prepared."""
        self._steps = {}

    def _recurrences(
        self,
        suffixes: list[str],
        inputs: list[Tensor],
        layout: Layout,
        states: list[State | None],
        first_step: Steps,
        tables: Sequence[Tensor | None],
    ) -> list[tuple[Tensor, State]]:
        """Return the output of each of the recurrences, and its last state.

        Each input is packed (N, I), or (T, B, I); the output likewise. With a table (V, G * H) of
        input terms the input is rows of it, (N, 1) or (T, B, 1). Batch norm's statistics are
        updated.
        """
        cells = [self.cell_parameters(s, table) for s, table in zip(suffixes, tables, strict=True)]
        if self.norm.kind is NormKind.batch and self.trains_statistics():
            self._check_repeated(layout)
            if self.norm.sync and isinstance(first_step, int):
                layout = self._synchronized(layout, first_step, cells)
        if layout.sequences:
            found = recurrences(self.backend, inputs, layout, states, cells, first_step)
        else:  # the kernels expect some rows
            found = [
                self._without_rows(x, layout, state, p, first_step)
                for x, state, p in zip(inputs, states, cells, strict=True)
            ]
        for p in cells:
            for statistics in p.statistics():
                statistics.finish()
        return found

    def _check_repeated(self, layout: Layout) -> None:
        """Raise RuntimeError where a repeated pass would read what the first one has changed.

        torch.utils.checkpoint repeats a forward pass within the backward pass.
        """
        if torch.compiler.is_compiling() or torch._C._current_graph_task_id() == -1:
            return
        if layout.steps_of(self.norm.min_rows) < layout.steps:
            raise RuntimeError(
                "batch norm in a pass repeated by torch.utils.checkpoint: steps of fewer than"
                f" norm.min_rows={self.norm.min_rows} rows would read changed running statistics;"
                " expected more rows, or frozen statistics"
            )

    def _synchronized(self, layout: Layout, first_step: int, cells: list[CellParameters]) -> Layout:
        """Return the layout with the steps of all processes, whose rows statistics are over."""
        if self._by_batch or not is_synchronized():
            return layout
        layout, rows = common(layout, self._example().device)
        for p in cells:
            for statistics in p.statistics():
                statistics.all_rows = AllRows(rows, first_step)
        return layout

    def _without_rows(
        self, x: Tensor, layout: Layout, state: State | None, p: CellParameters, first_step: Steps
    ) -> tuple[Tensor, State]:
        """Return the output and the last state of an empty batch, whose gradients are zeros."""
        states = [s for _, s in unroll(x.flatten(0, -2), layout, state, p, first_step)]
        output = torch.cat([s[0] for s in states])
        return output.view(*x.shape[:-1], self.hidden_size), states[-1]

    def _example(self) -> Tensor:
        """Return some parameter: all have its type and device."""
        own = [p for p in self._parameters.values() if p is not None]
        found: Tensor = own[0] if own else getattr(self, f"weight_ih{self.suffixes()[0]}")
        return found

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the parts of an initial state."""
        return ("h_0", "c_0") if self.cell == "lstm" else ("h_0",)

    def __repr__(self) -> str:
        """Return one line, unless there are modules of others, such as parametrizations."""
        if self._modules.keys() <= {"running_statistics"}:
            return f"{type(self).__name__}({self.extra_repr()})"
        return super().__repr__()
