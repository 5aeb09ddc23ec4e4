"""Several processes, as torchrun starts them, do together what one does."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from seq2seq.checkpoint import load_checkpoint
from seq2seq.data import Batch
from seq2seq.distributed import Processes
from seq2seq.logbook import read_metrics
from seq2seq.run import Run

ROOT = Path(__file__).resolve().parents[1]
ONE, TWO = ["train.py"], ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "train.py"]


@pytest.fixture
def start(toy, tmp_path):
    """Starts train.py on the toy corpus, in a folder of this name."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "USE_LIBUV": "0"}
    started = []

    def launch(program, folder, *overrides):
        program = [str(ROOT / "train.py") if part == "train.py" else part for part in program]
        started.append(subprocess.Popen(
            [sys.executable, *program, *toy, f"hydra.run.dir={folder}", *overrides], cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment))
        return started[-1]

    yield launch
    for process in started:
        if process.poll() is None:
            process.kill()


def finished(process):
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    return output


def last(folder):
    return load_checkpoint(Run(folder).checkpoint("last"))[0]


def losses(folder):
    return [e["loss"] for e in read_metrics(Run(folder).metrics_file) if e["kind"] == "train"]


def test_two_processes_learn_what_one_does(start, tmp_path):
    plain = ["norm=layer", "model.dropout=0", "optimizer=sgd", "optimizer.accumulate=2", "optimizer.lr=0.5"]
    one, two = start(ONE, "one", *plain), start(TWO, "two", *plain)
    finished(one)
    output = finished(two)
    assert output.count("training pairs") == 1, "one process speaks for both"
    assert "2 x 1 threads" in output
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    one, two = last(tmp_path / "one"), last(tmp_path / "two")
    for name in (n for n in one if n.startswith("model.")):
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-5, msg=name)
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two")]
    assert results[0]["tokens"] == results[1]["tokens"]


def test_two_stopped_processes_go_on_exactly(start, tmp_path):
    options = ["norm=batch", "norm.min_rows=2", "model.dropout=0.3", "trainer.max_epochs=40", "trainer.max_updates=60",
               "trainer.validate_every=20"]
    finished(start(TWO, "whole", *options))
    stopped = start(TWO, "stopped", *options)
    metrics = Run(tmp_path / "stopped").metrics_file
    while not metrics.exists() or len(read_metrics(metrics)) < 3:
        assert stopped.poll() is None, stopped.communicate()[0]
        time.sleep(0.05)
    stopped.send_signal(signal.SIGTERM)
    output, _ = stopped.communicate(timeout=120)
    assert "saved at update" in output
    assert not Run(tmp_path / "stopped").results_file.exists()
    finished(start(TWO, "stopped", *options))
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")
    whole, resumed = last(tmp_path / "whole"), last(tmp_path / "stopped")
    assert whole["random.cpu"].size(0) == 2
    assert not torch.equal(*whole["random.cpu"]), "each process has dropout of its own"
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_shares_of_a_batch_are_the_batch():
    lengths = torch.tensor([2, 5, 3])
    batch = Batch(torch.arange(15).view(3, 5), lengths, torch.arange(18).view(3, 6), lengths + 1, torch.arange(3))
    shares = [batch.share(rank, 2) for rank in range(2)]
    assert [share.indices.tolist() for share in shares] == [[0, 2], [1]]
    assert shares[0].src.tolist() == [[0, 1, 2], [10, 11, 12]]
    assert shares[0].tgt.shape == (2, 4)
    assert sum(share.tgt_tokens for share in shares) == batch.tgt_tokens
    assert batch.share(3, 4) is None
    assert batch.share(0, 1) is batch


def test_one_process_needs_no_other():
    one, values = Processes(), torch.tensor([1.0, 2.0])
    assert one.is_main
    assert torch.equal(one.sum(values), values)
    assert (one.max(3.0), one.from_main(4.0)) == (3.0, 4.0)
    assert one.gather(values).shape == (1, 2)
