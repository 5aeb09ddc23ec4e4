"""The learning rate over the course of training."""

import math

from ..config import OptimizerConfig, Schedule


def learning_rate(
    config: OptimizerConfig, update: int, done: float, plateau_scale: float = 1.0
) -> float:
    """Return the learning rate of an update.

    `update` counts from 1; `done` is the fraction of the training (0 to 1) before it.

    Every schedule rises linearly to `lr` over `warmup_updates`. After that:

    - constant: stays at lr.
    - inverse_sqrt: lr * sqrt(warmup_updates / update) (Vaswani et al. 2017, eq. 3).
    - cosine: falls to min_lr_ratio * lr at the end (Loshchilov & Hutter 2017, eq. 5).
    - plateau: lr * plateau_scale, which validation lowers, but at least min_lr_ratio * lr.
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
