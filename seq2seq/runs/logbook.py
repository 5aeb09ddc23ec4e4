"""What a run logs: metrics.jsonl, probes.jsonl, TensorBoard and the progress bar."""

import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ..shown import escaped
from .entries import MetricEntry
from .jsonl import JsonLines

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from tensorboard.compat.proto.event_pb2 import Event

LAYOUT = {
    "Runs side by side": {
        "training and validation loss (nats/token)": ["Multiline", ["train/nll$", "valid/loss$"]],
        "validation BLEU": ["Multiline", ["valid/bleu$"]],
        "gradient norm": ["Multiline", ["gradient_norm/all$"]],
        "target tokens/s": ["Multiline", ["train/tokens_per_second$"]],
    },
    "Gradient norms by module": {
        name: ["Multiline", [f"gradient_norm/{name}$"]]
        for name in ("src_embedding", "tgt_embedding", "encoder", "bridge", "decoder", "output")
    },
}
"""TensorBoard's custom scalars: category -> chart -> patterns of the scalars' tags.

Each run is a line of each chart.
"""
HISTOGRAM_BINS = 30
"""Bins of equal width, as many as TensorBoard draws.

Its own bins are too wide for gates that are nearly closed or open.
"""


def refresh_seconds() -> float:
    """Return the interval at which a progress bar is drawn: a long one outside a terminal."""
    return 0.2 if sys.stderr.isatty() else 30.0


def translating_bar(sentences: int, shown: bool = True) -> "tqdm[Any]":
    """Return the progress bar of a translation; `shown`: whether anybody sees it."""
    return tqdm(
        total=sentences,
        unit="sentence",
        desc="translating",
        leave=False,
        mininterval=refresh_seconds(),
        disable=not shown,
        dynamic_ncols=True,
    )


FINAL = "final/"
"""Start of the names of the scalars at the end of a run."""


def _is_kept(event: "Event", resumed_at: int) -> bool:
    """Return whether a run that goes on from an update keeps an event of TensorBoard.

    Layout and settings, at step 0, are written again, and so are the results at the end.
    """
    final = any(value.tag.startswith(FINAL) for value in event.summary.value)
    return event.HasField("file_version") or (0 < event.step <= resumed_at and not final)


class Logbook:
    """Writes every value under the update it belongs to.

    A resumed run first removes what was logged after its checkpoint.
    """

    def __init__(self, folder: Path, resumed_at: int, progress: bool) -> None:
        self.metrics = JsonLines(
            folder / "metrics.jsonl", lambda entry: entry.get("update", 0) <= resumed_at
        )
        self.probes = JsonLines(
            folder / "probes.jsonl",
            lambda entry: 0 < resumed_at >= entry.get("update", 0) and entry.get("final") is False,
        )
        from torch.utils.tensorboard import SummaryWriter  # who translates needs no TensorBoard

        from .events import cut_events, put_before_now

        cut_events(folder, lambda event: _is_kept(event, resumed_at))
        put_before_now(folder)
        self.writer = SummaryWriter(str(folder), purge_step=resumed_at + 1)
        self.writer.add_custom_scalars(LAYOUT)
        self.remarks: set[str] = set()
        self.bar: tqdm[Any] = tqdm(
            unit="update",
            disable=not progress,
            dynamic_ncols=True,
            smoothing=0.1,
            mininterval=refresh_seconds(),
        )

    def __enter__(self) -> "Logbook":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.close()
        self.writer.close()

    def log(self, kind: str, position: dict[str, Any], values: dict[str, float]) -> None:
        """Write a line of metrics.jsonl, and each value to TensorBoard as the scalar kind/name.

        `position` holds update, epoch, tokens and seconds.
        """
        self.metrics.write(MetricEntry(kind, **position, values={**values}).as_json())
        for name, value in values.items():
            self.writer.add_scalar(
                name if "/" in name else f"{kind}/{name}", value, position["update"]
            )

    def show(self, update: int, total: int | None, shown: dict[str, str] | None) -> None:
        """Move the progress bar to this update; `shown` is printed behind it, None: as before."""
        if self.bar.n == 0 and update > 1:
            self.bar.initial = self.bar.n = self.bar.last_print_n = update - 1
        self.bar.total = total
        if shown is not None:
            self.bar.set_postfix(shown, refresh=False)
        self.bar.update(update - self.bar.n)

    def say(self, message: str) -> None:
        """Print a line above the progress bar."""
        self.bar.write(escaped(message))

    def remark(self, kind: str, message: str) -> None:
        """Print a remark above the progress bar, unless it is empty or one of its kind has been."""
        if message and kind not in self.remarks:
            self.remarks.add(kind)
            self.say(message)

    def text(self, tag: str, markdown: str, update: int) -> None:
        """Write a text to TensorBoard."""
        self.writer.add_text(tag, markdown, update)

    def figure(self, tag: str, figure: "Figure", update: int) -> None:
        """Write an image to TensorBoard."""
        self.writer.add_figure(tag, figure, update)

    def histogram(self, tag: str, values: NDArray[np.floating], update: int) -> None:
        """Write a histogram of the finite values to TensorBoard."""
        finite = values[np.isfinite(values)]
        if finite.size:
            self.writer.add_histogram(tag, finite, update, bins=HISTOGRAM_BINS)

    def flush(self) -> None:
        """Wait until TensorBoard's events are in their file; a thread writes them.

        FileNotFoundError where the folder is gone: a checkpoint would make another one.
        """
        self.metrics.file.parent.stat()
        self.writer.flush()

    def hyperparameters(
        self, settings: dict[str, Any], results: dict[str, float], update: int
    ) -> None:
        """Write settings and final metrics for TensorBoard's HParams to the run's event file.

        `results` are the scores by name.

        torch would also write a list of settings, which TensorBoard would take from one run.
        Without it TensorBoard makes its own from all runs and puts first those that differ.
        A truth value is written as text; torch would write it as a number.
        """
        from torch.utils.tensorboard.summary import hparams

        known = {
            k: v if isinstance(v, (int, float)) and not isinstance(v, bool) else str(v)
            for k, v in settings.items()
        }
        final = {FINAL + name: value for name, value in results.items()}
        _, start, end = hparams(known, final)
        for summary in (start, end):
            self.writer._get_file_writer().add_summary(summary)
        for name, value in final.items():
            self.writer.add_scalar(name, value, update)
        self.flush()


class NoLogbook(Logbook):
    """The logbook of every process but the main one: it writes and shows nothing."""

    def __init__(self) -> None:
        pass

    def log(self, kind: str, position: dict[str, Any], values: dict[str, float]) -> None:
        """Do nothing: the main process writes."""

    def say(self, message: str) -> None:
        """Do nothing: the main process speaks."""

    def remark(self, kind: str, message: str) -> None:
        """Do nothing: the main process speaks."""

    def show(self, update: int, total: int | None, shown: dict[str, str] | None) -> None:
        """Do nothing: the main process shows the progress."""

    def flush(self) -> None:
        """Do nothing: the main process writes."""
