"""LSTMCell, GRUCell and RNNCell with a norm: drop-ins for the cells of torch.nn."""

from typing import Any

from torch import Tensor

from .checks import check_cell_input, check_cell_state
from .config import NormConfig
from .packing import Layout, Steps
from .recurrent import RecurrentModule
from .reference import State, as_hx, as_state


class RecurrentCell(RecurrentModule):
    """One time step of a recurrence: what LSTMCell, GRUCell and RNNCell share."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        norm: str | NormConfig = "layer",
        backend: str = "auto",
    ) -> None:
        super().__init__(input_size, hidden_size, bias, norm, backend)
        self._add_parameters("", input_size, device, dtype)
        if not bias:  # as in torch.nn's cells
            self.register_parameter("bias_ih", None)
            self.register_parameter("bias_hh", None)
        self._initialise()

    def suffixes(self) -> list[str]:
        """Return the one suffix of a cell, which is empty."""
        return [""]

    def forward(self, input: Tensor, hx: Any = None, *, first_step: Steps = 0) -> Any:
        """Take one time step.

        Args:
            input: (B, I), or (I,) without a batch.
            hx: (h, c) for the LSTM, else h, each (B, H) or (H,): the state before the step. None:
                no earlier state.
            first_step: The time step. Batch norm reads its statistics there. In eval mode also
                whole numbers (B,), or () without a batch: one for each row.

        Returns:
            The state after the step, shaped as hx.
        """
        check_cell_input(input, self.input_size, self._example(), self.cell)
        batched = input.dim() == 2
        x = input if batched else input.unsqueeze(0)
        if not batched and isinstance(first_step, Tensor) and not first_step.dim():
            first_step = first_step.unsqueeze(0)
        state = self._state(hx, x.size(0) if batched else None)
        first_step = self._checked_steps(first_step, 1, x.size(0))
        layout = Layout.of_padded(1, x.size(0))
        [(_, last)] = self._recurrences([""], [x], layout, [state], first_step, [None])
        return as_hx(last if batched else tuple(s.squeeze(0) for s in last))

    def _state(self, hx: Any, batch: int | None) -> State | None:
        """Return hx as a tuple of (B, H) tensors, checked; batch None: unbatched."""
        if hx is None:
            return None
        state = as_state(hx)
        shape = (self.hidden_size,) if batch is None else (batch, self.hidden_size)
        check_cell_state(state, shape, self._example(), self.state_names, self.cell)
        return state if batch is not None else tuple(s.unsqueeze(0) for s in state)

    def extra_repr(self) -> str:
        """Return the sizes, the settings that differ from their defaults, and the norm."""
        shown = [str(self.input_size), str(self.hidden_size)]
        shown += [] if self.bias else ["bias=False"]
        shown += [] if self.nonlinearity == "tanh" else [f"nonlinearity={self.nonlinearity}"]
        return ", ".join([*shown, f"norm={self.norm.kind.value}"])


class LSTMCell(RecurrentCell):
    """One step of an LSTM with a norm: a drop-in for torch.nn.LSTMCell.

    The equations are those of `LSTM`. A loop over a cell gives what the layer gives.

    Args:
        input_size (int): Features I of the input.
        hidden_size (int): Features H of the hidden state.
        bias (bool, default True): False leaves out bias_ih, bias_hh and bias_c.
        device, dtype: Of the parameters, as in torch.
        norm (str or NormConfig, default "layer"): "none", "batch", "layer", "rms" or all settings.
        backend (str, default "auto"): "reference" is plain torch, "fused" compiled kernels. "auto"
            takes the kernels where they support the case.

    Input and output:
        input: (B, I), or (I,).
        (h_0, c_0), optional: each (B, H), or (H,). Without them N(z) is 0, and batch norm's
            statistics of z do not change. Zeros are the same for all norms but batch norm.
        first_step (int, default 0): The time step, whose statistics batch norm uses. In eval mode
            also whole numbers (B,), one for each row.
        (h_1, c_1): as (h_0, c_0).

    Parameters, without a suffix:
        weight_ih (4H, I), weight_hh (4H, H), bias_ih (4H,), bias_hh (4H,): as in torch.
        gain_ih (4H,), gain_hh (4H,), gain_c (H,), bias_c (H,): with a norm.

    With norm="none" the state_dict, the outputs and all gradients are those of torch.nn.LSTMCell.
    InputError (a ValueError and RuntimeError) if a shape or type is not as above, ValueError if
    first_step is not.

    Example:
        >>> cell = LSTMCell(10, 20, norm="layer")
        >>> x, state = torch.randn(5, 3, 10), None
        >>> for t in range(5):
        ...     state = cell(x[t], state, first_step=t)
        >>> h, c = state
        >>> h.shape, c.shape
        (torch.Size([3, 20]), torch.Size([3, 20]))
    """

    cell = "lstm"
    gates = 4


class GRUCell(RecurrentCell):
    """One step of a gated recurrent unit with a norm: a drop-in for torch.nn.GRUCell.

    The equations are those of `GRU`; arguments, input and output those of `LSTMCell`, without a
    cell state: hx is h_0, and the cell returns h_1.

    Parameters, without a suffix:
        weight_ih (3H, I), weight_hh (3H, H), bias_ih (3H,), bias_hh (3H,): as in torch.
        gain_ih (3H,), gain_hh (3H,): with a norm; gain_hh is (H,) with joint terms.

    Example:
        >>> cell = GRUCell(10, 20, norm="rms")
        >>> cell(torch.randn(3, 10), torch.randn(3, 20)).shape
        torch.Size([3, 20])
    """

    cell = "gru"
    gates = 3


class RNNCell(RecurrentCell):
    """One step of a vanilla recurrent network with a norm: a drop-in for torch.nn.RNNCell.

    The equations are those of `RNN`; arguments, input and output those of `GRUCell`. One argument
    more:

        nonlinearity (str, default "tanh"): "tanh" or "relu"; the fourth positional argument.

    Parameters, without a suffix:
        weight_ih (H, I), weight_hh (H, H), bias_ih (H,), bias_hh (H,): as in torch.
        gain_ih (H,): with a norm; gain_hh (H,) too with separate terms.

    Example:
        >>> cell = RNNCell(10, 20, nonlinearity="relu")
        >>> cell(torch.randn(10)).shape
        torch.Size([20])
    """

    cell = "rnn"
    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
        *,
        norm: str | NormConfig = "layer",
        backend: str = "auto",
    ) -> None:
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, bias, device, dtype, norm=norm, backend=backend)
