"""Several processes compute together what one process computes.

One test starts them with torchrun.
"""

import json
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TrainHere
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from two_processes import (
    ENVIRONMENT,
    LIMIT,
    ROOT,
    TORCHRUN,
    StartTwo,
    last,
    losses,
    one_of_two,
    run_together,
    variables,
)

from seq2seq.data.batches import Batch
from seq2seq.errors import TrainingError
from seq2seq.model import Translator
from seq2seq.rnn import LSTM
from seq2seq.runs.folder import Run
from seq2seq.runs.jsonl import read_metrics
from seq2seq.training import loop, processes
from seq2seq.training.processes import SEED_STRIDE, Processes, joined
from seq2seq.training.step import Unread, train_step

pytest_plugins = ["two_process_fixtures"]


@pytest.fixture
def torchrun(toy: list[str], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function like `start_two`, which starts a real torchrun and does not wait."""
    started = []

    def start(folder: str, *overrides: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [*TORCHRUN, ROOT / "train.py", *toy, f"hydra.run.dir={folder}", *overrides],
                cwd=tmp_path,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=ENVIRONMENT,
            )
        )
        return started[-1]

    yield start
    for process in started:
        with process:  # closes its pipe
            process.kill()


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(["norm=layer"], marks=pytest.mark.slow),
        ["norm=layer", "tokenizer=bpe", "tokenizer.vocab_size=30", "tokenizer.bpe_dropout=0.5"],
        ["norm=batch", "norm.sync=true", "norm.min_rows=2"],
        pytest.param(["trainer.r_drop=4", "model.dropout=1e-6"], marks=pytest.mark.slow),  # to 0
    ],
    ids=["words", "BPE-dropout", "batch norm", "R-Drop"],
)
def test_two_processes_learn_the_same_as_one(
    settings: list[str], start_two: StartTwo, train_here: TrainHere, tmp_path: Path
) -> None:
    plain = [
        "model.dropout=0",
        *settings,  # R-Drop has a dropout of its own
        "optimizer=sgd",
        "optimizer.accumulate=2",
        "optimizer.lr=0.5",
    ]
    train_here(tmp_path / "one", *plain)
    output = start_two("two", *plain)
    assert output.count("training pairs") == 1, "one process speaks for both"
    assert "2 x 1 thread," in output
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    alone, both = last(tmp_path / "one"), last(tmp_path / "two")
    for name in (n for n in alone if n.startswith("model.")):
        torch.testing.assert_close(both[name], alone[name], rtol=1e-3, atol=1e-5, msg=name)
    results = [
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two")
    ]
    assert results[0]["tokens"] == results[1]["tokens"]


def seed_of(state: Tensor) -> int:
    """Return the seed that random numbers began with, from their state."""
    generator = torch.Generator()
    generator.set_state(state.clone())
    return generator.initial_seed()


def test_two_stopped_processes_resume_exactly(
    start_two: StartTwo, torchrun: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    options = [
        "norm=batch",
        "norm.min_rows=2",
        "model.dropout=0.3",
        "trainer.max_epochs=40",
        "trainer.max_updates=60",
        "trainer.validate_every=20",
    ]
    start_two("whole", *options)
    stopped = torchrun("stopped", *options)
    metrics = Run(tmp_path / "stopped").metrics_file
    while not metrics.exists() or len(read_metrics(metrics)) < 3:
        assert stopped.poll() is None, stopped.communicate()[0]
        time.sleep(0.05)
    stopped.send_signal(signal.SIGTERM)
    output, _ = stopped.communicate(timeout=LIMIT)
    assert "saved at update" in output
    assert not Run(tmp_path / "stopped").results_file.exists()
    start_two("stopped", *options)
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")
    whole, resumed = last(tmp_path / "whole"), last(tmp_path / "stopped")
    assert whole["random.cpu"].size(0) == 2
    assert [seed_of(state) for state in whole["random.cpu"]] == [1, 1 + SEED_STRIDE]
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_shares_of_a_batch_add_up_to_it() -> None:
    lengths = torch.tensor([2, 5, 3])
    batch = Batch(
        torch.arange(15).view(3, 5),
        lengths,
        torch.arange(18).view(3, 6),
        lengths + 1,
        torch.arange(3),
    )
    shares = [share for rank in range(2) if (share := batch.share(rank, 2))]
    assert [share.indices.tolist() for share in shares] == [[0, 2], [1]]
    assert shares[0].src.tolist() == [[0, 1, 2], [10, 11, 12]]
    assert shares[0].tgt.shape == (2, 4)
    assert sum(share.tgt_tokens for share in shares) == batch.tgt_tokens
    assert batch.share(3, 4) is None
    assert batch.share(0, 1) is batch


def test_the_end_of_memory_is_not_taken_for_that_of_another_process() -> None:
    def gather(error: RuntimeError) -> None:
        raise error

    with pytest.raises(torch.OutOfMemoryError):
        processes._all(gather, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(TrainingError, match=r"^another process of this training has ended"):
        processes._all(gather, RuntimeError("Connection closed by peer"))


def test_one_process_needs_no_group() -> None:
    one, values = Processes(), torch.tensor([1.0, 2.0])
    assert one.is_main
    assert torch.equal(one.sum(values), values)
    assert (one.max(3.0), one.from_main(4.0)) == (3.0, 4.0)
    assert one.gather(values).shape == (1, 2)


def ended(rank: int, folder: Path, environments: list[dict[str, str]]) -> None:
    """Write the names of Gloo's threads of this process: while it is one of a group, and after."""
    os.environ |= environments[rank]
    with joined(torch.device("cpu")) as processes:
        torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1).step()
        processes.wait()
        during = threads_of_gloo()
    (folder / f"threads{rank}").write_text(f"{len(during) > 0} {threads_of_gloo()}")


def threads_of_gloo() -> list[str]:
    names = [file.read_text().strip() for file in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are read from /proc")
def test_no_thread_outlives_the_group(tmp_path: Path) -> None:
    run_together(ended, (tmp_path, variables()))
    assert [(tmp_path / f"threads{rank}").read_text() for rank in range(2)] == ["True []"] * 2


# -- the layers alone, in PyTorch's own wrapper ---

ROWS, STEPS, INPUTS, HIDDEN = 6, 5, 4, 7
NORMS = "none", "layer", "batch"


def layer_and_input(norm: str) -> tuple[LSTM, Tensor]:
    """Return the same layer and input in every process."""
    torch.manual_seed(0)
    return LSTM(INPUTS, HIDDEN, norm=norm, backend="fused"), torch.randn(STEPS, ROWS, INPUTS)


def loss_of(layer: nn.Module, x: Tensor) -> Tensor:
    output, (h_n, c_n) = layer(x)
    loss: Tensor = output.square().sum() + h_n.sum() + (2 * c_n).sum()
    return loss


def half_in_ddp(rank: int, folder: Path) -> None:
    """Run one of two processes on every second row, and save the gradients of DDP by norm."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    for norm in NORMS:
        layer, x = layer_and_input(norm)
        wrapper = DistributedDataParallel(layer)  # it has to exist until the gradients are there
        loss_of(wrapper, x[:, rank::2]).backward()
        grads = {name: p.grad for name, p in layer.named_parameters()}
        torch.save(grads, f"{folder}/{norm}{rank}.pt")
    torch.distributed.barrier()
    os._exit(0)  # the destructors of PyTorch 2.13 may wait for each other where DDP was used


@pytest.fixture(scope="module")
def ddp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the gradients that two processes have saved."""
    folder = tmp_path_factory.mktemp("ddp")
    run_together(half_in_ddp, (folder,))
    return folder


@pytest.mark.parametrize("norm", NORMS)
def test_a_layer_in_ddp_gets_the_mean_gradient_of_both_processes(norm: str, ddp: Path) -> None:
    layer, x = layer_and_input(norm)
    expected = [
        torch.autograd.grad(loss_of(layer, x[:, rank::2]), list(layer.parameters()))
        for rank in range(2)
    ]
    both = [torch.load(ddp / f"{norm}{rank}.pt", weights_only=True) for rank in range(2)]
    for (name, p), *grads in zip(layer.named_parameters(), *expected, strict=True):
        assert p.grad is None
        torch.testing.assert_close(both[0][name], sum(grads) / 2, rtol=1e-5, atol=1e-6)
        assert torch.equal(both[0][name], both[1][name])


def spoiled_third(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the gradient of the third update infinite."""
    count = 0

    def stepping(model: Translator, *arguments: Any) -> Unread:
        nonlocal count
        count += 1
        if count != 3:
            return train_step(model, *arguments)
        with model.output.bias.register_hook(lambda gradient: gradient * math.inf):
            return train_step(model, *arguments)

    monkeypatch.setattr(loop, "train_step", stepping)


def one_is_spoiled(rank: int, *given: Any) -> None:
    """Train as `one_of_two`; the second process alone has a gradient that is not finite."""
    if rank == 1:
        spoiled_third(pytest.MonkeyPatch())
    one_of_two(rank, *given)


def test_two_processes_skip_an_update_together(
    toy: list[str], train_here: TrainHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go on as one process that skips the same update."""
    plain = ["norm=layer", "model.dropout=0", "trainer.log_every=1"]
    run_together(one_is_spoiled, ([*toy, "hydra.run.dir=two", *plain], tmp_path, variables()))
    assert "update      3  skipped" in (tmp_path / "output0").read_text()
    assert "skipped" not in (tmp_path / "output1").read_text(), "one process speaks for both"
    spoiled_third(monkeypatch)
    train_here(tmp_path / "one", *plain)
    found, expected = losses(tmp_path / "two"), losses(tmp_path / "one")
    assert found.pop(2) is expected.pop(2) is None
    assert found == pytest.approx(expected, rel=1e-3)
