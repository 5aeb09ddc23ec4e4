"""Layers in processes that fork, that have no GPU, or that use OpenMP otherwise."""

import subprocess
import sys
from typing import Any

import pytest
from idiom_cases import HAS_COMPILER, NORMS

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="fork and /proc")


def output_of(code: str, *arguments: str) -> str:
    """Return what a Python program prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


LOADER = """
import sys
import torch
from torch.utils.data import DataLoader, Dataset
from seq2seq.rnn import LSTM

torch.set_num_threads(2)
torch.manual_seed(0)
layers = [LSTM(64, 128, norm=norm) for norm in sys.argv[1:]]
x = torch.randn(20, 32, 64)

def run():
    for layer in layers:
        layer.zero_grad()
        layer(x)[0].square().sum().backward()
    return [layer.weight_hh_l0.grad.clone() for layer in layers]

expected = run()  # with two threads, before the workers are forked

class Gradients(Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return run()

loader = DataLoader(Gradients(), num_workers=2, multiprocessing_context="fork", timeout=300)
for gradients in loader:
    for norm, (found,), layers_own in zip(sys.argv[1:], gradients, expected, strict=True):
        torch.testing.assert_close(found, layers_own, rtol=1e-3, atol=1e-3)
        print(norm)
"""


@needs_proc
def test_a_worker_that_was_forked_runs_the_layers() -> None:
    assert output_of(LOADER, *NORMS).split() == [*NORMS] * 3


NO_GPU = """
import sys
import torch

def refuse(*arguments, **keywords):
    raise AssertionError("asked for a GPU")

torch.cuda.is_available = torch.cuda.device_count = torch.cuda.current_device = refuse
torch.cuda.init = torch.cuda._lazy_init = refuse
from seq2seq.rnn import LSTM

for norm in ("none", "layer", "rms", "batch"):
    layer = LSTM(5, 4, norm=norm)
    layer(torch.randn(6, 3, 5))[0].sum().backward()
    layer.eval()(torch.randn(6, 3, 5))
assert not torch.cuda.is_initialized()
assert "triton" not in sys.modules
print("none was used")
"""


def test_a_layer_on_a_cpu_asks_for_no_gpu() -> None:
    assert output_of(NO_GPU) == "none was used"


LIBRARIES = """
import re
import torch
import seq2seq.rnn as rnn

def loaded():
    with open("/proc/self/maps") as maps:
        found = {line.split()[-1] for line in maps if "/" in line}
    return sorted(name for name in found if re.search("gomp|iomp5|libomp", name))

torch.ones(10) + 1
before = loaded()
assert rnn.load_kernels()
layer = rnn.LSTM(64, 64)
layer(torch.randn(6, 30, 64))[0].sum().backward()
assert loaded() == before, (before, loaded())
print(len(before))
"""


@needs_proc
@pytest.mark.skipif(not HAS_COMPILER, reason="no C++ compiler")
def test_the_kernels_bring_no_other_openmp() -> None:
    assert int(output_of(LIBRARIES)) <= 1


ANOTHER_OPENMP = """
import ctypes, glob, os, sys
ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
import torch
from seq2seq.rnn import LSTM

torch.set_num_threads(2)
torch.manual_seed(0)
x, fused = torch.randn(20, 32, 64), LSTM(64, 128, backend="fused")
plain = LSTM(64, 128, backend="reference")
plain.load_state_dict(fused.state_dict())
torch.testing.assert_close(fused(x), plain(x), rtol=1e-4, atol=1e-4)
print("same")
"""


def other_runtimes() -> list[str]:
    """Return the OpenMP libraries of the system that are not PyTorch's."""
    from ctypes.util import find_library

    return [name for name in map(find_library, ("gomp", "omp", "iomp5")) if name]


@needs_proc
@pytest.mark.skipif(not HAS_COMPILER, reason="no C++ compiler")
@pytest.mark.skipif(not other_runtimes(), reason="no other OpenMP library")
def test_another_openmp_in_the_process_changes_nothing() -> None:
    for library in other_runtimes():
        found: Any = output_of(ANOTHER_OPENMP, library)
        assert found == "same", library
