"""Who competes in the tables of the applications: the rival, our translator by norm, the floor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..config import Config, Precision

RIVAL = "plain nn.LSTM"
"""The rival's name, and the baseline of the tables."""
PRODUCTS = "products alone"
"""The contestant that no program with these matrix products can beat."""


@dataclass(frozen=True)
class Contestant:
    """A translator that is measured."""

    config: Config
    """Its own settings, the norm included."""
    norm: str | None
    """Name of its norm; None: the rival."""
    by_length: bool = False
    """Whether its batches have sentences of similar lengths; the rival's always have."""

    @property
    def name(self) -> str:
        """Its name in the tables."""
        name = variant(RIVAL if self.norm is None else f"norm={self.norm}", self.config)
        return name + ", sorted" * (self.by_length and self.norm is not None)


def contestants(
    base: Config,
    configs: Mapping[str, Config],
    feeding: bool,
    orders: Sequence[bool] = (False,),
    precisions: Sequence[Precision] = (Precision.fp32,),
) -> list[Contestant]:
    """Return the rival, with the settings `base` of norm=none, and ours, for settings by norm.

    All of them come once for each of `precisions`; with `feeding` all of that a second time, with
    input feeding. Ours come once for each of `orders`, a value of `by_length`.
    """
    found = []
    for feeds in (False, True) if feeding else (base.model.input_feeding,):
        for precision in precisions:
            found.append(Contestant(with_settings(base, feeds, precision), None, True))
            for norm, config in configs.items():
                settings = with_settings(config, feeds, precision)
                found += [Contestant(settings, norm, by_length) for by_length in orders]
    return found


def variant(name: str, config: Config) -> str:
    """Return a name, which says so where there is input feeding, or bfloat16."""
    name += ", input feeding" * config.model.input_feeding
    return name + ", bf16" * (config.trainer.precision is Precision.bf16)


def with_settings(config: Config, feeds: bool, precision: Precision) -> Config:
    """Return the settings with or without input feeding, with products of this type."""
    model = replace(config.model, input_feeding=feeds)
    return replace(config, model=model, trainer=replace(config.trainer, precision=precision))
