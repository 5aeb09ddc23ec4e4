"""Compilers of the fused kernels other than the usual one: clang, and one for another processor."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kernel_cases import needs_compiler

from seq2seq.rnn.cpu import build

AGREES = """
import itertools
import torch
from seq2seq.rnn import GRU, LSTM, RNN
from seq2seq.rnn.cpu import build

assert (reason := build.failure()) is None, reason
torch.manual_seed(0)
x = torch.randn(7, 5, 6)
for kind, norm in itertools.product((LSTM, GRU, RNN), ("none", "batch", "layer", "rms")):
    options = {"norm": norm, "bidirectional": True}
    fused, plain = (kind(6, 8, **options, backend=b) for b in ("fused", "reference"))
    plain.load_state_dict(fused.state_dict())
    results = []
    for layer in (fused, plain):
        given = x.clone().requires_grad_()
        output = layer(given)[0]
        output.square().sum().backward()
        results.append([output, given.grad, *(p.grad for p in layer.parameters())])
    for ours, expected in zip(*results, strict=True):
        bound = 1e-4 * expected.abs().max().item()
        torch.testing.assert_close(ours, expected, rtol=0, atol=bound)
"""
FOREIGN = "aarch64-linux-gnu-g++"


def compiler_that_says(folder: Path, version: str) -> list[str]:
    """Return a command that prints this version, and writes its arguments beside itself."""
    program = folder / "compiler"
    program.write_text(f'#!/bin/sh\necho "$@" >> "$0.log"\necho "{version}"\n')
    program.chmod(0o755)
    return [str(program)]


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("Debian clang version 14.0.6", True),
        ("Apple clang version 15.0.0 (clang-1500.3.9.4)", True),
        ("c++ (Debian 12.2.0-14+deb12u1) 12.2.0", False),
        ("", False),
    ],
)
def test_clang_is_known_by_its_version(tmp_path: Path, version: str, expected: bool) -> None:
    assert build.is_clang(compiler_that_says(tmp_path, version)) is expected


@pytest.mark.parametrize(("version", "clang"), [("clang version 14", True), ("g++ 12", False)])
def test_clang_gets_no_flag_that_it_refuses_and_its_own_openmp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, clang: bool
) -> None:
    """The program writes no file: the link fails at the end, after all commands have run."""
    command = compiler_that_says(tmp_path, version)
    monkeypatch.setenv("CXX", command[0])
    with pytest.raises(FileNotFoundError):
        build.build(build.LAYERS, tmp_path / build.LIBRARY, build.this_processor())
    _, *compiled, linked = Path(f"{command[0]}.log").read_text().splitlines()
    assert len(compiled) == len(list(build.LAYERS.folder.glob("*.cpp")))
    assert {"-fno-tree-pre" in line.split() for line in compiled} == {not clang}
    assert ("-fopenmp" in linked.split()) is clang


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("clang++") is None, reason="no clang++ (make compilers)")
def test_kernels_compiled_by_clang_agree_with_the_reference(tmp_path: Path) -> None:
    env = {**os.environ, "CXX": "clang++", "TORCH_EXTENSIONS_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", AGREES], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@needs_compiler
@pytest.mark.skipif(
    shutil.which(FOREIGN) is None or platform.machine() != "x86_64",
    reason=f"no {FOREIGN} (make compilers)",
)
@pytest.mark.parametrize("source", sorted(p.name for p in build.HEADERS.glob("*.cpp")))
def test_kernels_compile_for_aarch64(tmp_path: Path, source: str) -> None:
    torch_home = Path(torch.__file__).parent
    headers = [f"-isystem{torch_home / part}" for part in build.TORCH_HEADERS]
    flags = [*build.COMPILE_FLAGS, f"-I{build.HEADERS}", *headers]
    made = tmp_path / "made.o"
    command = [FOREIGN, *flags, "-c", str(build.HEADERS / source), "-o", str(made)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert made.read_bytes()[18:20] == b"\xb7\x00"  # ELF's number of this processor
