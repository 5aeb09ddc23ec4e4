"""The optimizer's settings: update rule, learning rate schedule, clipping."""

from dataclasses import dataclass
from enum import Enum

from .checks import MOST, check_ranges, number, only_with


class OptimizerKind(Enum):
    """Update rule."""

    adam = "adam"
    adamw = "adamw"
    sgd = "sgd"


class Schedule(Enum):
    """Learning rate over updates, after a linear warm-up."""

    constant = "constant"
    inverse_sqrt = "inverse_sqrt"
    cosine = "cosine"
    plateau = "plateau"


@dataclass
class OptimizerConfig:
    """Update rule and learning rate."""

    kind: OptimizerKind = OptimizerKind.adam
    lr: float = number(1e-3, at_least=0, at_most=1000)
    """Peak learning rate; 0 leaves all weights as they are."""
    betas: tuple[float, float] = number((0.9, 0.999), at_least=0, below=1)
    """Decay rates of Adam's averages of gradients and of their squares."""
    eps: float = number(1e-8, at_least=1e-30, at_most=1)
    """Added to the root of Adam's second average, which may be 0: float32 has to hold it."""
    momentum: float = number(0.0, at_least=0, below=1)
    """Momentum of SGD."""
    weight_decay: float = number(0.0, at_least=0, at_most=10)
    """Pull of the weight matrices towards zero.

    Decoupled from the gradient in AdamW, added to it in Adam and SGD. Biases, and the gains and
    shifts of norms, are left alone: see `decay_vectors`.
    """
    decay_vectors: bool = False
    """Whether weight decay also pulls vectors: biases, and the gains and shifts of norms.

    A gain that is pulled to zero closes its norm, and a bias that is pulled to zero fits less.
    Versions up to 0.2 did so. Zhang et al. 2019 (arXiv:1810.12281) explain what decay does to a
    normalised weight.
    """
    schedule: Schedule = Schedule.cosine
    warmup_updates: int = number(200, at_least=0, at_most=MOST)
    min_lr_ratio: float = number(0.0, at_least=0, at_most=1)
    """Lowest learning rate of cosine and plateau, relative to lr."""
    plateau_patience: int = number(1, at_least=1, at_most=MOST)
    """Validations without progress before plateau lowers the rate."""
    plateau_factor: float = number(0.5, above=0, below=1)
    """Factor by which plateau lowers the rate."""
    clip_norm: float = number(5.0, at_least=0, at_most=MOST)
    """Largest gradient norm; 0: no clipping."""
    accumulate: int = number(1, at_least=1, at_most=MOST)
    """Batches per parameter update."""

    def __post_init__(self) -> None:
        check_ranges(self, "optimizer")
        self.betas = (self.betas[0], self.betas[1])  # a list where they were read from YAML
        sgd, schedule = self.kind is OptimizerKind.sgd, self.schedule
        only_with(self, "optimizer", "optimizer.kind=sgd", sgd, "momentum")
        only_with(self, "optimizer", "optimizer.kind=adam or adamw", not sgd, "betas", "eps")
        only_with(
            self,
            "optimizer",
            "optimizer.schedule=plateau",
            schedule is Schedule.plateau,
            "plateau_patience",
            "plateau_factor",
        )
        decays = self.weight_decay > 0
        only_with(self, "optimizer", "optimizer.weight_decay above 0", decays, "decay_vectors")
        falls = schedule in (Schedule.cosine, Schedule.plateau)
        only_with(self, "optimizer", "optimizer.schedule=cosine or plateau", falls, "min_lr_ratio")
