"""The learning rate over training."""

import math

from ..config import OptimizerConfig, Schedule


def learning_rate(
    config: OptimizerConfig, update: int, done: float, plateau_scale: float = 1.0
) -> float:
    """The rate of update number `update` (from 1), with the part `done` (0 to 1) of the training
    behind it.

    All schedules rise linearly to `lr` over `warmup_updates`. Then: constant; inverse_sqrt falls
    with sqrt(warmup / update) (Vaswani et al. 2017, eq. 3); cosine falls to min_lr_ratio * lr at
    the end (Loshchilov & Hutter 2017, eq. 5); plateau is lr times plateau_scale, which validation
    lowers.
    """
    if update < config.warmup_updates:
        return config.lr * update / config.warmup_updates
    if config.schedule is Schedule.inverse_sqrt:
        return config.lr * math.sqrt(max(config.warmup_updates, 1) / max(update, 1))
    if config.schedule is Schedule.cosine:
        floor = config.min_lr_ratio
        return config.lr * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))
    if config.schedule is Schedule.plateau:
        return config.lr * max(plateau_scale, config.min_lr_ratio)
    return config.lr
