"""A profile by module, from torch.profiler: what each module's operators take, and their gradients.

An operator belongs to the innermost module whose forward pass it runs in. A backward operator
belongs to the module of the forward operator with its sequence number.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from .timing import Task

MODULE_RANGE = "module "
"""Begins the names of the ranges of modules."""
BACKWARD = "autograd::engine::evaluate_function"
OPTIMIZER = "Optimizer.step"
OUTSIDE = "outside of modules"
ROWS = 15
"""Operators in the profiler's own table."""


@dataclass
class Share:
    """Time of one module's operators, without those of the modules inside it."""

    module: str
    forward: float
    """Milliseconds."""
    backward: float
    """Milliseconds."""
    share: float
    """Part of all operators' time."""


def profiled(task: Task, model: nn.Module, name: str) -> tuple[list[Share], str]:
    """Return the shares of a task's time by module, and the profiler's own table of operators.

    `name` is that of the whole model.
    """
    task()
    with (
        ranges(model, name),
        profile(activities=[ProfilerActivity.CPU], acc_events=True) as found,
    ):
        task()
    shares = by_module(found.events() or [])
    table = found.key_averages().table(
        "self_cpu_time_total", ROWS, max_name_column_width=50, top_level_events_only=False
    )
    return shares, table


@contextmanager
def ranges(model: nn.Module, name: str) -> Iterator[None]:
    """Record the forward pass of each module of a model as a range."""
    open_ranges: list[Any] = []
    handles = []
    for path, module in model.named_modules():
        label = MODULE_RANGE + (path or name)

        def enter(*_: object, label: str = label) -> None:
            open_ranges.append(record_function(label))
            open_ranges[-1].__enter__()

        def leave(*_: object) -> None:
            open_ranges.pop().__exit__(None, None, None)

        handles += [
            module.register_forward_pre_hook(enter),
            module.register_forward_hook(leave, always_call=True),
        ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def by_module(events: Iterable[FunctionEvent]) -> list[Share]:
    """Return the shares of modules, the largest first."""
    ordered = sorted(events, key=lambda event: event.time_range.start)
    makers: dict[int, str] = {}  # number of a node of the graph -> module that made it
    for event in ordered:
        if event.sequence_nr >= 0 and ancestor(event, BACKWARD) is None:
            makers[event.sequence_nr] = module_of(event)
    times: dict[str, list[float]] = {}
    for event in ordered:
        node = ancestor(event, BACKWARD)
        module = module_of(event) if node is None else makers.get(node.sequence_nr, OUTSIDE)
        times.setdefault(module, [0.0, 0.0])[node is not None] += event.self_cpu_time_total / 1000
    total = sum(map(sum, times.values()))
    shares = [Share(name, f, b, (f + b) / total) for name, (f, b) in times.items()]
    return sorted(shares, key=lambda share: -share.share)


def module_of(event: FunctionEvent) -> str:
    """Return the innermost module in whose range an event lies, or what else it belongs to."""
    if (range_ := ancestor(event, MODULE_RANGE)) is not None:
        return range_.name.removeprefix(MODULE_RANGE)
    return "optimizer" if ancestor(event, OPTIMIZER) is not None else OUTSIDE


def ancestor(event: FunctionEvent, prefix: str) -> FunctionEvent | None:
    """Return the innermost event around this one, or itself, whose name begins so."""
    found: FunctionEvent | None = event
    while found is not None and not found.name.startswith(prefix):
        found = found.cpu_parent
    return found
