"""The trainer's settings: how long, on what hardware, and what is measured during training."""

from dataclasses import dataclass
from enum import Enum

from .checks import MOST, check_ranges, number, only_with, refuse


class Device(Enum):
    """Where to compute; auto is a GPU if there is one."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Precision(Enum):
    """Type of the matrix products; state, norms and loss stay float32."""

    fp32 = "fp32"
    bf16 = "bf16"


class Metric(Enum):
    """What decides which checkpoint is best, and when to stop early."""

    bleu = "bleu"
    loss = "loss"


class Backend(Enum):
    """Which implementation of the recurrences runs; auto is fused where it can run."""

    auto = "auto"
    reference = "reference"
    fused = "fused"


@dataclass
class TrainerConfig:
    """How long to train, on what hardware, and what to measure on the way."""

    max_epochs: int | None = number(10, at_least=1, at_most=MOST)
    """Passes over the training data; null: no limit."""
    max_updates: int | None = number(None, at_least=1, at_most=MOST)
    """Parameter updates; null: no limit. Training ends at whichever limit comes first."""
    device: Device = Device.auto
    precision: Precision = Precision.fp32
    threads: int | None = number(None, at_least=1, at_most=1024)
    """CPU threads; null: torch decides."""
    label_smoothing: float = number(0.1, at_least=0, below=1)
    r_drop: float = number(0.0, at_least=0, at_most=1000)
    """Weight of R-Drop's divergence between two passes with different dropout; 0: one pass.

    Wu et al. 2021 (arXiv:2106.14448), equation 4. An update then takes up to twice the time and
    memory, and batch norm's `min_rows` counts a sentence twice.
    """
    validate_every: int | None = number(None, at_least=1, at_most=MOST)
    """Updates between validations; null: once an epoch."""
    validate_sentences: int | None = number(None, at_least=1, at_most=MOST)
    """Number of validation sentences to decode for BLEU while training; null: all."""
    checkpoint_every: int | None = number(None, at_least=1, at_most=MOST)
    """Updates between checkpoints; null: at each validation."""
    log_every: int = number(20, at_least=1, at_most=MOST)
    """Updates between entries in metrics.jsonl and TensorBoard."""
    max_skipped: int = number(5, at_least=0, at_most=MOST)
    """Updates in a row that may be skipped, as loss or gradient is not finite; one more stops.

    A GPU is asked every `log_every` updates, so that the run may stop so much later.
    """
    best_metric: Metric = Metric.bleu
    patience: int | None = number(None, at_least=1, at_most=MOST)
    """Stop after this number of validations without a better one; null: never."""
    average_last: int = number(0, at_least=0, at_most=10_000)
    """Average the weights of the last k validated checkpoints at the end; 0: no averaging.

    The average becomes the best checkpoint if it validates better.
    """
    average_best: int = number(0, at_least=0, at_most=10_000)
    """Average the k best validated checkpoints instead of the last ones; 0: no averaging.

    `best_metric` decides which are best; the earlier of equal ones is.
    """
    recalibrate: bool = True
    """Whether to estimate batch norm's statistics again at the end.

    One pass over training data, for the best checkpoint.
    """
    recalibrate_batches: int | None = number(None, at_least=1, at_most=MOST)
    """Number of batches of that pass; null: the whole training set."""
    histograms: bool = True
    """Whether each validation writes histograms from inside the recurrent layers.

    TensorBoard shows them; see seq2seq/probes/histograms.py.
    """
    progress: bool = True
    """Whether to show a progress bar."""

    def __post_init__(self) -> None:
        check_ranges(self, "trainer")
        for key, count in (("last", self.average_last), ("best", self.average_best)):
            if count == 1:
                refuse(
                    f"trainer.average_{key}=1: expected 0 (no averaging) or at least 2 checkpoints"
                )
        if self.average_last and self.average_best:
            refuse(
                f"trainer.average_best={self.average_best}: expected 0 with"
                f" trainer.average_last={self.average_last}, as one average is made at the end"
            )
        only_with(
            self, "trainer", "trainer.recalibrate=true", self.recalibrate, "recalibrate_batches"
        )
        if self.max_epochs is None and self.max_updates is None and self.patience is None:
            raise ValueError(
                "trainer.max_epochs=null: expected a number, or another end of the training"
                " (trainer.max_updates or trainer.patience)"
            )
