"""What a run writes down: metrics.jsonl, TensorBoard, the progress bar."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import orjson
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from tqdm import tqdm

from ..files import naming, write_text

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
"""TensorBoard's custom scalars: by category, charts of the scalars whose tags match; a run is a
line in each.
"""
HISTOGRAM_BINS = 30
"""As many as TensorBoard draws, of equal width: its own bins are too wide for gates that are nearly
shut or open.
"""


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """The entries of a metrics.jsonl or probes.jsonl; None stands for a figure that was not finite.

    A last line that a killed run left unfinished is passed over.
    """
    if not file.is_file():
        return []
    lines = file.read_bytes().split(b"\n")
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(_parsed(line))
        except ValueError as error:
            if line and number < len(lines):
                shown = line[:80].decode(errors="replace")
                raise ValueError(f"{file}:{number}: not a JSON object: {shown!r}") from error
    return entries


def _parsed(line: bytes) -> Any:
    try:
        return orjson.loads(line)  # five times as fast as json
    except orjson.JSONDecodeError:
        return json.loads(
            line, parse_constant=lambda _: None
        )  # NaN and Infinity, as earlier versions wrote them


def json_line(entry: dict[str, Any]) -> str:
    """An entry as a line of JSON, which has no word for what is not finite: that is null."""
    return orjson.dumps(
        entry, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE
    ).decode()


def refresh_seconds() -> float:
    """How often a progress bar is drawn: rarely where it isn't a terminal that it overwrites itself
    on.
    """
    return 0.2 if sys.stderr.isatty() else 30.0


class JsonLines:
    """A file of JSON objects, one a line. Of those that are there, the ones that `keep` holds for
    stay.
    """

    def __init__(self, file: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
        self.file = file
        if file.exists():
            write_text(
                file, "".join(json_line(entry) for entry in read_metrics(file) if keep(entry))
            )

    def write(self, entry: dict[str, Any]) -> None:
        """Add a line."""
        with naming(self.file), open(self.file, "a", encoding="utf-8") as stream:
            stream.write(json_line(entry))


class Logbook:
    """Writes every value under the update it belongs to; a resumed run forgets what came after its
    checkpoint.
    """

    def __init__(self, folder: Path, resumed_at: int, progress: bool) -> None:
        self.metrics = JsonLines(
            folder / "metrics.jsonl", lambda entry: entry["update"] <= resumed_at
        )
        self.probes = JsonLines(
            folder / "probes.jsonl",
            lambda entry: 0 < resumed_at >= entry["update"] and not entry["final"],
        )
        self.writer = SummaryWriter(str(folder), purge_step=resumed_at + 1)
        self.writer.add_custom_scalars(LAYOUT)
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
        """One line of metrics.jsonl, and a scalar each in TensorBoard, under `kind`/name.

        position holds update, epoch, tokens and seconds.
        """
        self.metrics.write({"kind": kind, **position, **values})
        for name, value in values.items():
            self.writer.add_scalar(
                name if "/" in name else f"{kind}/{name}", value, position["update"]
            )

    def show(self, update: int, total: int | None, **shown: str) -> None:
        """Move the progress bar; tqdm adds the time left."""
        if self.bar.n == 0 and update > 1:
            self.bar.initial = self.bar.n = self.bar.last_print_n = update - 1
        self.bar.total = total
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update(update - self.bar.n)

    def say(self, message: str) -> None:
        """A line above the progress bar."""
        self.bar.write(message)

    def text(self, tag: str, markdown: str, update: int) -> None:
        """A text in TensorBoard."""
        self.writer.add_text(tag, markdown, update)

    def figure(self, tag: str, figure: Figure, update: int) -> None:
        """An image in TensorBoard."""
        self.writer.add_figure(tag, figure, update)

    def histogram(self, tag: str, values: NDArray[np.floating], update: int) -> None:
        """A histogram in TensorBoard, of those values that are finite."""
        finite = values[np.isfinite(values)]
        if finite.size:
            self.writer.add_histogram(tag, finite, update, bins=HISTOGRAM_BINS)

    def hyperparameters(
        self, settings: dict[str, Any], results: dict[str, float], update: int
    ) -> None:
        """Settings and final metrics in TensorBoard's HParams, in this run's own event file.

        Without the list of settings that torch would have TensorBoard take from one run: so it
        makes its own from all runs, and puts those first in which they differ. A truth value is
        text, which torch would write as a number.
        """
        known = {
            k: v if isinstance(v, (int, float)) and not isinstance(v, bool) else str(v)
            for k, v in settings.items()
        }
        _, start, end = hparams(known, results)
        for summary in (start, end):
            self.writer._get_file_writer().add_summary(summary)
        for name, value in results.items():
            self.writer.add_scalar(name, value, update)
        self.writer.flush()


class NoLogbook(Logbook):
    """Of a process beside the main one: writes and shows nothing."""

    def __init__(self) -> None:
        pass

    def log(self, kind: str, position: dict[str, Any], values: dict[str, float]) -> None:
        """Nothing: the main process writes."""

    def show(self, update: int, total: int | None, **shown: str) -> None:
        """Nothing: the main process shows."""
