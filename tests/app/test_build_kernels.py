"""scripts/build_kernels.py: kernels for machines that have no compiler."""

import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from kernel_cases import needs_compiler
from runs import Command

from seq2seq.model import kernels
from seq2seq.rnn.cpu import build

ANSWER = 'extern "C" __attribute__((visibility("default"))) int answer() { return 42; }\n'
KINDS = ("avx512_bf16", "avx512", "avx2", "default")
on_x86 = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="not an x86-64 processor"
)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let both libraries be of one function; return the folder of the other machines."""
    found = []
    for name in ("layers", "translator"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "answer.cpp").write_text(ANSWER)
        found.append(build.Kernels(name, tmp_path / name))
    monkeypatch.setattr(build, "LAYERS", found[0])
    monkeypatch.setattr(kernels, "KERNELS", found[1])
    return tmp_path / "out"


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    return Command("build_kernels", monkeypatch, capfd)


def libraries(out: Path) -> set[str]:
    return {path.parent.name for path in out.glob(f"*/{build.LIBRARY}")}


@needs_compiler
def test_by_default_the_libraries_are_those_that_this_machine_loads(
    command: Command, small: Path
) -> None:
    printed = command("--out", small).out
    expected = {build.folder_of(k, build.this_processor()) for k in (build.LAYERS, kernels.KERNELS)}
    assert libraries(small) == expected
    assert f"TORCH_EXTENSIONS_DIR={small.resolve()}" in printed
    assert f"this: compiled into {small}" in printed


@needs_compiler
@on_x86
def test_each_kind_of_processor_has_its_own_libraries(command: Command, small: Path) -> None:
    printed = command("--out", small, "--processors", ",".join(KINDS)).out
    assert libraries(small) == {
        build.folder_of(k, build.PROCESSORS[kind])
        for k in (build.LAYERS, kernels.KERNELS)
        for kind in KINDS
    }
    assert len(libraries(small)) == 8
    assert [line.partition(":")[0] for line in printed.splitlines()[:-1]] == list(KINDS)


@needs_compiler
def test_what_is_there_is_not_compiled_again(
    command: Command, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("--out", small)
    monkeypatch.setattr(build, "build", None)
    command("--out", small)


def test_without_a_compiler_there_is_an_error_of_one_line(
    command: Command, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    done = command("--out", small)
    assert done.code == 2
    assert done.err.startswith("build_kernels.py: this: no C++ compiler: no-such-compiler")
    assert done.err.count("\n") == 1


def test_a_compiler_that_fails_is_a_failure_under_way(
    command: Command, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "false")
    done = command("--out", small)
    assert done.code == 1
    assert "build_kernels.py: this: false failed with exit status 1" in done.err


def test_a_shell_can_read_the_printed_setting(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "g++ -O0")
    monkeypatch.setattr(kernels, "prebuild", lambda *_: None)
    printed = command("--out", tmp_path / "my dir").out
    words = shlex.split(printed.splitlines()[-1].partition(": ")[2])
    assert words == [f"TORCH_EXTENSIONS_DIR={tmp_path / 'my dir'}", "CXX=g++ -O0"]


def test_kinds_of_another_family_are_refused(
    command: Command, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    done = command("--out", small, "--processors", "this,avx2")
    assert done.code == 2
    assert "--processors avx2: this machine's processor is aarch64; expected this" in done.err


def test_the_kinds_are_those_of_the_kernels() -> None:
    from seq2seq.app.build_kernels import KINDS as offered

    assert offered == KINDS == tuple(build.PROCESSORS)
    assert build.this_processor() in [*build.PROCESSORS.values(), build.Processor("DEFAULT")]


RUN = """
import torch
from seq2seq.model import kernels
from seq2seq.rnn import LSTM
print(LSTM(3, 4, backend="fused")(torch.ones(2, 2, 3))[0].shape, kernels.load())
"""


@needs_compiler
@pytest.mark.slow
def test_a_machine_without_a_compiler_runs_the_kernels(tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text('#!/bin/sh\nexec c++ "$@" -O0\n')
    compiler.chmod(0o755)
    environment = {**os.environ, "CXX": str(compiler)}
    script = Path(__file__).parents[2] / "scripts" / "build_kernels.py"
    out = tmp_path / "out"
    made = [sys.executable, str(script), "--out", str(out)]
    subprocess.run(made, env=environment, check=True)
    compiler.unlink()
    environment["TORCH_EXTENSIONS_DIR"] = str(out)
    done = subprocess.run(
        [sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "torch.Size([2, 2, 4]) True\n"
    assert done.stderr == ""
