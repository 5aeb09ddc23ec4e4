"""Probes: measurements inside a model. Each yields lines of a run's probes.jsonl.

gradient_flow    sizes of summed inputs and gradients by time step
train_eval_gap   loss in training mode and in eval mode; batch norm's stored statistics compared
                 with those of batches
invariance       changes of weights and data that leave the output as it is
length           translation quality by source length

gradient_flow runs before training and at each validation, the others on the final weights.
histograms writes to TensorBoard instead.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from ..config import ProbeKind
from ..model import evaluating
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
"""Probes of a model that is still training; the others measure the final one."""


def probe(subject: Subject, final: bool) -> Iterator[dict[str, Any]]:
    """Yield the findings of the configured probes of this stage.

    `final` selects the probes of the final weights. Leaves the model's mode and the random numbers
    of training as they were.
    """
    for kind in subject.config.probe.kinds:
        if (kind in WHILE_TRAINING) != final:
            with torch.random.fork_rng(), evaluating(subject.model):
                torch.manual_seed(subject.config.seed)
                for found in PROBES[kind](subject):
                    yield {"probe": kind.value, **found}
