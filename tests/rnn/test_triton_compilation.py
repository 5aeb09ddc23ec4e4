"""Every GPU kernel compiles for a GPU, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import triton_cases
from kernel_cases import COLUMN_SIZES, SIZES
from triton_cases import interpreted as interpreted  # the fixture of MARKS

pytestmark = triton_cases.MARKS
slow = pytest.mark.slow


COMPILE = """
import os, sys
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction
sys.path[:0] = [sys.argv[1], os.path.dirname(sys.argv[1])]
from kernel_cases import COLUMN_SIZES, SIZES, arguments, batch_arguments
from seq2seq.rnn.gpu import operators as gpu

dtype, capability, hidden = getattr(torch, sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
norms, compiled, launch = sys.argv[5:], set(), JITFunction.run


class Driver:
    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return GPUTarget("cuda", capability, 32)


def compile(kernel, *args, grid, warmup, **named):
    done = launch(kernel, *args, grid=grid, warmup=True, **named)  # all but the launch itself
    if done.hash not in compiled:
        compiled.add(done.hash)
        [cell] = {a.CELL for a in args if hasattr(a, "CELL")}
        name = ".".join([*kernel.fn.__module__.split(".")[3:], kernel.fn.__name__, cell])
        print(name, len(done.asm["ptx"]), len(done.asm["cubin"]))


triton.runtime.driver.set_active(Driver())
JITFunction.run = compile  # what the loops launch is what has to compile


def run(name, args):
    settings = next(i for i, a in enumerate(args) if type(a) is int)
    output, _, _, *kept = getattr(gpu, name)(*args)
    if args[-1]:
        back = (None, None, None, *args[:6], output, *kept, *args[settings:-1], True)
        getattr(gpu, name + "_backward")(*back)


for norm in norms:
    with torch.no_grad():
        if norm in ("batch", "sequence_input"):
            for cell in COLUMN_SIZES:
                wide = dtype != torch.float32 and norm == "sequence_input" and not cell.startswith("rnn")
                run("batch_norm_recurrence", batch_arguments(dtype, wide, normalises_input=norm == "batch", cell=cell, hidden=hidden))
            continue
        for cell in SIZES:
            for save in (True, False):
                run("recurrence", arguments(norm, dtype, save, cell=cell, hidden=hidden))
"""


ALL = ["none", "layer", "rms", "batch", "sequence_input"]


@pytest.mark.parametrize(
    ("dtype", "capability", "hidden", "norms"),
    [
        ("bfloat16", 90, 6, ["layer", "batch"]),
        pytest.param("bfloat16", 90, 6, ["none", "rms", "sequence_input"], marks=slow),
        pytest.param("float32", 90, 6, ALL, marks=slow),
        pytest.param("float32", 90, 1024, ALL, marks=slow),
        pytest.param("bfloat16", 80, 1024, ["layer", "batch"], marks=slow),
        pytest.param("bfloat16", 100, 1024, ["layer", "batch"], marks=slow),
        pytest.param("float32", 75, 512, ["layer", "batch"], marks=slow),
    ],
)
def test_every_launched_kernel_compiles_for_a_gpu(
    dtype: str, capability: int, hidden: int, norms: list[str], tmp_path: Path
) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    settings = [dtype, str(capability), str(hidden), *norms]
    command = [sys.executable, "-c", COMPILE, str(Path(__file__).parent), *settings]
    done = subprocess.run(
        command,
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line.split() for line in done.stdout.splitlines()]
    cells = {"rows": SIZES, "columns": COLUMN_SIZES}
    expected = {
        f"kernels.{norm}_{way}.{cell}"
        for norm in cells
        for way in ("forward", "backward")
        for cell in cells[norm]
    }
    expected |= {f"all_rows.column_sums.{cell}" for cell in SIZES}
    expected |= {
        f"all_rows.input_backward.{cell}" for cell in ("lstm", "lstm_plain_cell", "gru")
    }  # else du is dz
    assert {line[0] for line in lines} == expected
    assert all(int(size) > 1000 for line in lines for size in line[-2:])
