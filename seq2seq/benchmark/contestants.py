"""Who competes in the tables of the applications: the rival, our translator by norm, the floor."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..config import Config

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
        name = fed(RIVAL if self.norm is None else f"norm={self.norm}", self.config)
        return name + ", sorted" * (self.by_length and self.norm is not None)


def contestants(
    base: Config,
    configs: Mapping[str, Config],
    feeding: bool,
    orders: tuple[bool, ...] = (False,),
) -> list[Contestant]:
    """Return the rival, with the settings `base` of norm=none, and ours, for settings by norm.

    With `feeding` all of them come a second time, with input feeding. Ours come once for each of
    `orders`, a value of `by_length`.
    """
    found = []
    for feeds in (False, True) if feeding else (base.model.input_feeding,):
        found.append(Contestant(with_feeding(base, feeds), None, True))
        for norm, config in configs.items():
            settings = with_feeding(config, feeds)
            found += [Contestant(settings, norm, by_length) for by_length in orders]
    return found


def fed(name: str, config: Config) -> str:
    """Return a name, which says so where there is input feeding."""
    return name + ", input feeding" * config.model.input_feeding


def with_feeding(config: Config, feeds: bool) -> Config:
    """Return the settings with or without input feeding."""
    return replace(config, model=replace(config.model, input_feeding=feeds))
