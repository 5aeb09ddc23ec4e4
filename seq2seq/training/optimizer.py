"""The optimizer and its learning rate over the course of training."""

import inspect
import math
from typing import Any, TypeVar

import torch
from torch import nn

from ..config import OptimizerConfig, OptimizerKind, Schedule

Kind = TypeVar("Kind", bound=type[torch.optim.Optimizer])
WRAPPED = ("add_param_group", "load_state_dict", "state_dict", "step", "zero_grad")
"""Methods of torch.optim.Optimizer that import `torch.compile` when they are called."""


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return the configured optimizer; the loop sets its learning rate before each update.

    It is fused: `train_step` needs its `found_inf`.
    """
    groups = parameter_groups(model, config)
    if config.kind is OptimizerKind.sgd:
        sgd = uncompiled(torch.optim.SGD)(groups, config.lr, config.momentum, fused=True)
        sgd.register_step_pre_hook(begin_momentum)
        return sgd
    kind = torch.optim.AdamW if config.kind is OptimizerKind.adamw else torch.optim.Adam
    return uncompiled(kind)(groups, config.lr, config.betas, config.eps, fused=True)


def uncompiled(kind: Kind) -> Kind:
    """Return a class of optimizers that computes the same, and cannot be part of `torch.compile`.

    torch.optim wraps these methods so that the compiler leaves them alone or sees that `step` needs
    no gradients. For that the first optimizer imports the compiler, which takes over a second and
    140 MiB. Here nothing compiles an update.
    """
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in WRAPPED}
    methods["step"] = torch.no_grad()(methods["step"])
    return type(kind.__name__, (kind,), methods)  # type: ignore[return-value]


def state_kinds(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    """Return the names of the tensors that an optimizer keeps for each parameter."""
    if isinstance(optimizer, torch.optim.SGD):
        return ("momentum_buffer",) if optimizer.defaults["momentum"] else ()
    return "step", "exp_avg", "exp_avg_sq"


def begin_momentum(optimizer: torch.optim.Optimizer, *_: object) -> None:
    """Begin SGD's momentum with zeros, which gives the first update that torch gives.

    torch would begin with memory as it finds it, and keep that if the first update is skipped.
    """
    for group in (g for g in optimizer.param_groups if g["momentum"]):
        for p in (p for p in group["params"] if p.grad is not None):
            if optimizer.state[p].get("momentum_buffer") is None:
                optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Return the model's parameters in groups with one weight decay each.

    Matrices decay, embeddings among them. Vectors do not, unless `decay_vectors` says so: they are
    the biases, and the gains and shifts of norms.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if config.weight_decay == 0 or config.decay_vectors:
        return [{"params": parameters, "weight_decay": config.weight_decay}]
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]


def learning_rate(
    config: OptimizerConfig, update: int, done: float, plateau_scale: float = 1.0
) -> float:
    """Return the learning rate of an update.

    `update` counts from 1; `done` is the fraction of the training (0 to 1) before it.

    Every schedule rises linearly to `lr` over `warmup_updates`. After that:

    - constant: stays at lr.
    - inverse_sqrt: lr * sqrt(warmup_updates / update) (Vaswani et al. 2017, eq. 3).
    - cosine: falls to min_lr_ratio * lr at the end (Loshchilov & Hutter 2017, eq. 5). It falls over
      the whole training, so that a long warm-up ends with a step down to where it then is.
    - plateau: lr * plateau_scale, which validation lowers, but at least min_lr_ratio * lr.
    """
    if update < config.warmup_updates:
        return config.lr * update / config.warmup_updates
    if config.schedule is Schedule.inverse_sqrt:
        return config.lr * math.sqrt(max(config.warmup_updates, 1) / update)
    if config.schedule is Schedule.cosine:
        floor = config.min_lr_ratio
        return config.lr * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))
    if config.schedule is Schedule.plateau:
        return config.lr * max(plateau_scale, config.min_lr_ratio)
    return config.lr
