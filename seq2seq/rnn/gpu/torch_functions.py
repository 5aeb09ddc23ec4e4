"""Layers without a norm on a GPU: torch's own functions, which run cuDNN's kernels.

They are the functions that torch.nn's layers call, with all layers and directions in one call. A
layer with dropout makes a call for each of its layers: cuDNN draws masks from a state of its own,
which neither torch.set_rng_state nor torch.utils.checkpoint restores (pytorch#104697). So a resumed
training would not repeat them, and a recomputed forward pass would have others.

What they do not have runs elsewhere: autocast with states in float32, functions of torch.func,
forward-mode derivatives, tracing, empty batches. Second derivatives are an error of cuDNN's.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.backends.cudnn.rnn import get_cudnn_mode

from .. import gpu
from ..config import NormConfig, NormKind
from ..flat_weights import FlatWeights
from ..packing import Layout
from ..precision import autocast_enabled
from ..reference import State


class TorchFunctions(FlatWeights):
    """Base of recurrent layers that run in torch's own functions where these serve."""

    input_size: int
    hidden_size: int
    num_layers: int
    num_directions: int
    bidirectional: bool
    dropout: float
    norm: NormConfig
    backend: str
    _steps: dict[str, Any]

    def torch_serves(self, x: Tensor, layout: Layout) -> bool:
        """Return whether torch's own function runs this layer over x."""
        if self.norm.kind is not NormKind.none or self.backend != "auto":
            return False
        if (
            not gpu.is_gpu(x.device)
            or layout.lengths is not None
            or autocast_enabled(x.device.type)
        ):
            return False
        traced = torch.compiler.is_compiling() or torch.compiler.is_exporting()
        transformed = torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
        return not (traced or transformed or self._steps) and layout.sequences > 0

    def run_by_torch(self, x: Tensor, layout: Layout, state: State | None) -> tuple[Tensor, State]:
        """Return the output (N, D * H) of the last layer, and all last states, each (L * D, B, H).

        x is packed (N, I), or (T, B, I); the output likewise. state is (L * D, B, H) each, or None.
        """
        if state is None:
            shape = self.num_layers * self.num_directions, layout.sequences, self.hidden_size
            state = (x.new_zeros(shape),) * (2 if self.cell == "lstm" else 1)
        weights, finished = self._flat_weights, []
        for call, (first, layers) in enumerate(self.calls()):
            if call and self.training:
                x = nn.functional.dropout(x, self.dropout)
            own = slice(first * self.num_directions, (first + layers) * self.num_directions)
            before = tuple(s[own].contiguous() for s in state)  # cuDNN asks for that
            x, *last = self.function(x, layout, before, weights[self.of_layers(own)], layers)
            finished.append(last)
        return x, tuple(
            parts[0] if len(parts) == 1 else torch.cat(parts)
            for parts in zip(*finished, strict=True)
        )

    def function(
        self,
        x: Tensor,
        layout: Layout,
        state: State,
        weights: tuple[Tensor | None, ...],
        layers: int,
    ) -> tuple[Tensor, ...]:
        """Run some layers in torch's function; return the output and the last states."""
        call: Callable[..., tuple[Tensor, ...]] = getattr(torch._VF, self.mode.lower())
        hx = state if self.cell == "lstm" else state[0]
        # The backward pass needs what is saved "in training", also in eval mode.
        settings = self.bias, layers, 0.0, torch.is_grad_enabled(), self.bidirectional
        if x.dim() == 3:
            return call(x.contiguous(), hx, list(weights), *settings, False)
        return call(x.contiguous(), layout.batch_sizes, hx, list(weights), *settings)

    def calls(self) -> list[tuple[int, int]]:
        """Return the first layer and the number of layers of each call."""
        if not self.dropout:
            return [(0, self.num_layers)]
        return [(layer, 1) for layer in range(self.num_layers)]

    def of_layers(self, places: slice) -> slice:
        """Return where the weights of layers and directions are among all."""
        kinds = 4 if self.bias else 2
        return slice(places.start * kinds, places.stop * kinds)

    def flatten_parameters(self) -> None:
        """Move the weights of each call into one piece of memory, as cuDNN reads them.

        Without this each call copies them, and PyTorch warns. It is done when a layer is made on a
        GPU or moved to one. Parameters stay the same objects. Weights that are tied, replaced or
        of different types stay where they are, as do those of a layer with a norm or on a CPU.
        """
        found = [self._parameters.get(name) for name in self._flat_weights_names]
        weights: list[Tensor] = [w for w in found if w is not None]
        if (
            self.norm.kind is not NormKind.none
            or len(weights) < len(found)
            or not can_be_flat(weights)
        ):
            return
        mode, kinds = get_cudnn_mode(self.mode), 4 if self.bias else 2
        for first, layers in self.calls():
            own = slice(first * self.num_directions, (first + layers) * self.num_directions)
            inputs = self.input_size if first == 0 else self.hidden_size * self.num_directions
            with torch.no_grad(), torch.cuda.device_of(weights[0]):
                torch._cudnn_rnn_flatten_weight(
                    weights[self.of_layers(own)],
                    kinds, inputs, mode, self.hidden_size, 0, layers, False, self.bidirectional,
                )  # fmt: skip

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Do what nn.Module does to all tensors, such as moving them; make the weights flat."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.flatten_parameters()
        return self


def can_be_flat(weights: Sequence[Tensor]) -> bool:
    """Return whether cuDNN takes weights in one piece: of one type, and none of them tied."""
    return (
        all(gpu.is_gpu(w.device) and w.dtype == weights[0].dtype for w in weights)
        and all(torch.backends.cudnn.is_acceptable(w) for w in weights)
        and len({w.data_ptr() for w in weights}) == len(weights)
        and torch._use_cudnn_rnn_flatten_weight()
    )
