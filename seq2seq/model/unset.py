"""Models whose weights have no values yet: a checkpoint has them."""

from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

FILLS = (Tensor.uniform_, Tensor.normal_, Tensor.fill_, Tensor.zero_)
"""What torch.nn.init and the layers write their first values with."""


class Unset(TorchFunctionMode):
    """Inside, new weights keep the memory that they got as it is: nothing is drawn or written.

    Memory that nobody has written to takes no room. The meta device does the same, but loads a part
    of torch that takes a second and 100 MiB.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function of torch, unless it gives a tensor its values."""
        kwargs = kwargs or {}
        if function in FILLS or getattr(function, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)
