"""Train a translator: `python train.py norm=layer`. `python train.py --help` lists every
setting.
"""

import sys
from typing import Any

import hydra
from omegaconf import DictConfig

from seq2seq.app import cli

cli.register()


@hydra.main(version_base="1.3", config_path="configs", config_name="train")
def main(cfg: DictConfig) -> dict[str, Any]:
    """One run, or one job of a sweep."""
    from seq2seq.training.loop import train  # after Hydra has answered --help, which needs no torch

    with cli.job():
        return train(*cli.current_run(cfg))


if __name__ == "__main__":
    sys.argv[1:] = cli.arguments(sys.argv[1:])
    sys.exit(cli.guarded(main))
