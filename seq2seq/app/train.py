"""Train a translator, or a sweep of them; the configuration decides what."""

from functools import partial
from typing import Any

from omegaconf import DictConfig

from .composition import current_run, job, register, run

register()  # here too: the process of a sweep's job imports this module to find `task`


def task(cfg: DictConfig) -> dict[str, Any]:
    """Train one run, or one job of a sweep."""
    with job():
        config, folder = current_run(cfg)
        from ..training.loop import train  # with torch, which a wrong setting need not wait for

        return train(config, folder)


main = partial(run, task, "train")
"""Train what the command line asks for."""
