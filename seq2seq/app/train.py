"""Train a translator, or a sweep of them; the configuration decides what."""

from functools import partial
from typing import Any

from omegaconf import DictConfig

from ..config import Metric
from .composition import current_run, job, register, run

register()  # here too: the process of a sweep's job imports this module to find `task`


def task(cfg: DictConfig) -> float | None:
    """Train one run, or one job of a sweep; return what a search of settings maximises."""
    with job():
        config, folder = current_run(cfg)
        from ..training.loop import train  # with torch, which a wrong setting need not wait for

        return objective(train(config, folder), config.trainer.best_metric)


def objective(results: dict[str, Any], metric: Metric) -> float | None:
    """Return valid BLEU, or the negative valid loss; None for a process without results."""
    if not results:
        return None
    return float(results["valid"]["bleu"] if metric is Metric.bleu else -results["valid_loss"])


main = partial(run, task, "train", goes_on=True)
"""Train what the command line asks for, whether or not somebody reads what is printed."""
