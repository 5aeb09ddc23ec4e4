"""Recurrent layers whose inputs recur: rows of a table of first products, made once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .backends import fused_serves, project
from .checks import check_input, check_rows
from .cpu.operators import packs
from .precision import product_dtype
from .recurrent import RecurrentModule


class ProjectedInputs(RecurrentModule):
    """Base of layers that take inputs (..., I), or rows of what `project` returns of inputs."""

    num_directions: int

    def project(self, input: Tensor) -> Tensor:
        """Return W_ih x of the first layer for inputs (N, I) or (T, B, I): D * G * H features.

        `forward` takes such a table (V, D * G * H) and numbers of its rows, and returns the same as
        for the inputs. So inputs that recur, as the embeddings of words do, are multiplied once:

            output, hx = rnn(words, projected=rnn.project(embedding.weight))
        """
        check_input(input, self.input_size, self._example(), self.cell, packed=False)
        cells = [self.cell_parameters(suffix) for suffix in self.suffixes()[: self.num_directions]]
        return torch.cat([project(self.backend, input, p) for p in cells], dim=-1)

    @property
    def projected_size(self) -> int:
        """The number of features that `project` returns."""
        return self.num_directions * self.gates * self.hidden_size

    def packs_products(self) -> bool:
        """Return whether `project` multiplies by packed weights: on a CPU within `frozen`.

        No bit of a row depends on other rows then.
        """
        p = self.cell_parameters(self.suffixes()[0])
        device, dtype = p.weight_hh.device, product_dtype(p.weight_hh)
        on_cpu = p.kept is not None and device.type == "cpu" and packs(dtype)
        return on_cpu and fused_serves(self.backend, p)

    def checked_input(self, x: Tensor, projected: Tensor | None, packed: bool) -> Tensor:
        """Return the input, with one feature if it is rows of a table; raise InputError."""
        if projected is None:
            check_input(x, self.input_size, self._example(), self.cell, packed)
            return x
        check_rows(x, projected, self.projected_size, self._example(), packed)
        return x.unsqueeze(-1)

    def tables(self, projected: Tensor | None) -> Sequence[Tensor | None]:
        """Return each direction's part (V, G * H) of a table, or None."""
        directions = self.num_directions
        return [None] * directions if projected is None else projected.chunk(directions, dim=1)
