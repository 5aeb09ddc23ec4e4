"""The speed tables: our layers, training steps and search, with torch.nn.LSTM or greedy search measured beside them.

    python scripts/benchmark.py
    python scripts/benchmark.py layers --json layers.json

Each row's ratio is to the first row of its table, from the same interleaved rounds.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from seq2seq.benchmark import Timing, interleave
from seq2seq.checkpoint import write_text
from seq2seq.cli import guarded
from seq2seq.config import CellConfig, DecodeConfig, ModelConfig, NormConfig, NormKind
from seq2seq.decoding import search_in_batches
from seq2seq.device import set_threads
from seq2seq.model import Translator, Vocabulary
from seq2seq.ops import cpu
from seq2seq.rnn import LSTM

SIZES = {"small": [(10, 8, 32, 32)], "full": [(25, 64, 256, 256), (25, 64, 512, 512), (25, 128, 512, 512),
                                              (50, 32, 1024, 1024)]}
"""(T, B, I, H) of the layers."""
NORMS = tuple(NormKind.__members__)


def forward_and_backward(layer: nn.Module, x: torch.Tensor, upstream: torch.Tensor, bfloat16: bool) -> None:
    """One training pass of a layer."""
    layer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        output = layer(x)[0]
    output.backward(upstream)


def forward(layer: nn.Module, x: torch.Tensor, bfloat16: bool) -> None:
    """One pass of a layer that nobody learns from."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        layer(x)


def layers(size: str, rounds: int) -> dict[str, list[Timing]]:
    """One LSTM layer, by norm, backend and type, training and not."""
    backends = ("reference",) if cpu.failure() else ("fused", "reference")
    tables = {}
    for steps, batch, inputs, hidden in SIZES[size]:
        torch.manual_seed(0)
        x = torch.randn(steps, batch, inputs, requires_grad=True)
        upstream = torch.randn(steps, batch, hidden)
        contestants: dict[str, nn.Module] = {"torch.nn.LSTM": nn.LSTM(inputs, hidden)}
        contestants |= {f"LSTM norm={norm} {backend}": LSTM(inputs, hidden, norm=norm, backend=backend)
                        for backend in backends for norm in NORMS}
        typed = [(f"{name}{' bfloat16' if bfloat16 else ''}", layer, bfloat16) for bfloat16 in (False, True)
                 for name, layer in contestants.items()]
        title = f"T={steps} B={batch} I={inputs} H={hidden}"
        tables[f"{title}, forward + backward"] = interleave(
            {name: partial(forward_and_backward, layer, x, upstream, bfloat16) for name, layer, bfloat16 in typed},
            rounds)
        tables[f"{title}, forward"] = interleave(
            {name: partial(forward, layer, x, bfloat16) for name, layer, bfloat16 in typed}, rounds)
    return tables


def translators(size: str) -> dict[str, Translator]:
    """A translator of each norm with fresh weights."""
    torch.manual_seed(0)
    vocabulary = 100 if size == "small" else 8000
    config = ModelConfig(32, 32, dropout=0.0) if size == "small" else ModelConfig()
    return {f"norm={norm}": Translator(config, NormConfig(kind=NormKind[norm]), CellConfig(),
                                       Vocabulary(vocabulary, vocabulary, True)) for norm in NORMS}


def training_update(model: Translator, optimizer: torch.optim.Optimizer, batch: tuple[torch.Tensor, ...]) -> None:
    """One update without label smoothing or clipping."""
    optimizer.zero_grad(set_to_none=True)
    model(*batch)[0].backward()
    optimizer.step()


def train(size: str, rounds: int) -> dict[str, list[Timing]]:
    """One parameter update of the whole translator, by norm."""
    sentences, words = (8, 5) if size == "small" else (64, 15)
    lengths = torch.full((sentences,), words)
    runs: dict[str, Callable[[], object]] = {}
    for name, model in translators(size).items():
        ids = torch.randint(4, model.vocabulary.tgt_size, (sentences, words))
        optimizer = torch.optim.Adam(model.parameters(), fused=True)
        runs[name] = partial(training_update, model, optimizer, (ids, lengths, ids, lengths))
    return {f"one update, {sentences} sentences of {words} words": interleave(runs, rounds)}


def search(model: Translator, sentences: list[list[int]], beam: int) -> None:
    """Translate all sentences to the longest length."""
    list(search_in_batches(model, sentences, DecodeConfig(beam_size=beam, max_length="1x")))


def decode(size: str, rounds: int) -> dict[str, list[Timing]]:
    """Search, greedy and with a beam of 5, by norm."""
    count, words = (4, 5) if size == "small" else (64, 15)
    runs: dict[str, Callable[[], object]] = {}
    for name, model in translators(size).items():
        sentences = torch.randint(4, model.vocabulary.src_size, (count, words)).tolist()
        for beam in (1, 5):
            runs[f"{name} beam={beam}"] = partial(search, model.eval(), sentences, beam)
    return {f"{count} sentences of {words} words": interleave(runs, rounds)}


TABLES = {"layers": layers, "train": train, "decode": decode}


def show(tables: dict[str, list[Timing]]) -> None:
    """Print every table."""
    for title, timings in tables.items():
        table = Table(box=None, pad_edge=False, title=title, title_justify="left")
        for heading in ("", "ms (median)", "ratio (median)", "quartiles"):
            table.add_column(heading, justify="right" if heading else "left")
        for t in timings:
            table.add_row(t.name, f"{t.milliseconds:.1f}", f"{t.ratio:.2f}", f"{t.low:.2f} to {t.high:.2f}")
        Console().print(table)


def main() -> None:
    """Parse the command line, measure, print, and write the JSON where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=[*TABLES, "all"], default="all", help="what is measured (default: "
                        "all)")
    parser.add_argument("--size", choices=list(SIZES), default="full", help="small takes a second, for a first look")
    parser.add_argument("--rounds", type=int, default=11, metavar="N", help="interleaved rounds (default: 11)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error(f"--rounds {arguments.rounds}: expected at least 1")
    set_threads(arguments.threads)
    chosen = TABLES.values() if arguments.what == "all" else [TABLES[arguments.what]]
    tables = {title: rows for measure in chosen for title, rows in measure(arguments.size, arguments.rounds).items()}
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.rounds} rounds")
    show(tables)
    if arguments.json is not None:
        figures = {title: [asdict(t) for t in timings] for title, timings in tables.items()}
        write_text(arguments.json, json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads(),
                                               "rounds": arguments.rounds, "tables": figures}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(guarded(main))
