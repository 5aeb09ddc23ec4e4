"""Probes: what goes on inside a model, measured. Each gives lines of a run's probes.jsonl.

gradient_flow    sizes of the summed inputs and of the gradients by step: before training and at
                 each validation
train_eval_gap   the same batches in training and in eval mode; batch norm's stored statistics
                 beside a batch's own
invariance       what may be done to weights and data without changing the output
length           quality by length of the source

The last three look at the final weights.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from ..config import ProbeKind
from .gradient_flow import gradient_flow
from .invariance import invariance
from .length import length
from .subject import Subject
from .train_eval_gap import train_eval_gap

__all__ = ["Subject", "probe"]

PROBES: dict[ProbeKind, Callable[[Subject], Iterator[dict[str, Any]]]] = {
    ProbeKind.gradient_flow: gradient_flow,
    ProbeKind.train_eval_gap: train_eval_gap,
    ProbeKind.invariance: invariance,
    ProbeKind.length: length,
}
WHILE_TRAINING = (ProbeKind.gradient_flow,)
"""Those that look at a model while it learns; the others look at the final one."""


def probe(subject: Subject, final: bool) -> Iterator[dict[str, Any]]:
    """What the configured probes of this stage find. The model is left in the mode it came in.

    No random number that training would have drawn is used up.
    """
    was_training = subject.model.training
    for kind in subject.config.probe.kinds:
        if (kind in WHILE_TRAINING) != final:
            with torch.random.fork_rng():
                subject.model.eval()
                torch.manual_seed(subject.config.seed)
                for found in PROBES[kind](subject):
                    yield {"probe": kind.value, **found}
            subject.model.train(was_training)
