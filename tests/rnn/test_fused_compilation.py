"""Compiling and loading the fused kernels."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from kernel_cases import needs_compiler

from seq2seq.rnn import backends as ops
from seq2seq.rnn.cpu import build, operators

pytestmark = needs_compiler
RUN = """
import logging, sys
import torch
from seq2seq.rnn import LSTM
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
torch.manual_seed(0)
layer = LSTM(3, 4, norm="layer", backend=sys.argv[1])
print(layer(torch.ones(2, 2, 3))[0].sum().item())
"""


def in_a_process(
    backend: str, folder: Path, code: str = RUN, **environment: str
) -> subprocess.Popen[str]:
    """Start a process that runs a layer, with its extension cache in this folder."""
    env = {**os.environ, "TORCH_EXTENSIONS_DIR": str(folder), **environment}
    return subprocess.Popen(
        [sys.executable, "-c", code, backend],
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_without_a_compiler_fused_raises_and_auto_uses_the_reference(tmp_path: Path) -> None:
    processes = {
        backend: in_a_process(backend, tmp_path, CXX="no-such-compiler")
        for backend in ("fused", "auto")
    }
    (_, fused), (output, auto) = (p.communicate() for p in processes.values())
    assert (
        "RuntimeError: backend='fused': no C++ compiler: no-such-compiler was not found;"
        " expected g++" in fused
    )
    assert processes["auto"].returncode == 0, auto
    assert float(output)
    warnings = [line for line in auto.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == 1
    assert "run in plain torch (backend=reference), more slowly: no C++ compiler" in warnings[0]


@pytest.mark.parametrize(
    ("compiler", "cause"), [("g++ '-O2", "No closing quotation"), ("true", "No such file")]
)
def test_auto_continues_after_a_compiler_failure(tmp_path: Path, compiler: str, cause: str) -> None:
    process = in_a_process("auto", tmp_path, CXX=compiler)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert float(output)
    assert cause in errors


def test_the_output_of_a_failing_compiler_is_quoted(tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\nfor i in $(seq 30); do echo line $i >&2; done\nexit 3\n")
    compiler.chmod(0o755)
    process = in_a_process("fused", tmp_path, CXX=str(compiler))
    _, errors = process.communicate()
    found = re.search(r"RuntimeError: backend='fused': (.*) \((.*)\); see (.*)\n$", errors)
    assert found is not None, errors
    assert found[1] == f"{compiler} failed with exit status 3"
    assert found[2] == "line 30"
    assert Path(found[3]).read_text() == "".join(f"line {i}\n" for i in range(1, 31))


def unoptimised(compiler: Path, before: str = "") -> str:
    """Write a compiler that skips optimisation, in half the time; return its name."""
    compiler.write_text(f'#!/bin/sh\n{before}exec c++ "$@" -O0\n')
    compiler.chmod(0o755)
    return str(compiler)


SMALL = """
import ctypes, logging, sys
from pathlib import Path
from seq2seq.rnn.cpu import build
logging.basicConfig(format="%(levelname)s %(message)s")
name, sources, folder = sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])
(sources / name).touch()
kernels = build.Kernels("small", sources)
build.load(kernels, folder)
library = build.compiled(kernels, folder, build.this_processor())
print(ctypes.CDLL(str(library)).answer())
"""


def loading_small(name: str, compiler: str, tmp_path: Path) -> subprocess.Popen[str]:
    """Start a process that loads a library of one function and prints what that returns."""
    arguments = [name, str(tmp_path / "sources"), str(tmp_path / "library")]
    return subprocess.Popen(
        [sys.executable, "-c", SMALL, "small", *arguments],
        env={**os.environ, "CXX": compiler},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_two_processes_compile_a_library_once_and_again_if_it_is_damaged(tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "answer.cpp").write_text(
        'extern "C" __attribute__((visibility("default"))) int answer() { return 42; }\n'
    )
    both = f"until test -e {sources}/one -a -e {sources}/two; do sleep 0.05; done\n"
    called = f"echo called >> {tmp_path}/calls\n"
    compiler = unoptimised(tmp_path / "c++", both + called)
    started = [loading_small(name, compiler, tmp_path) for name in ("one", "two")]
    outputs, errors = zip(*(p.communicate(timeout=300) for p in started), strict=True)
    assert outputs == ("42\n", "42\n"), errors
    assert sorted(e.count("WARNING compiling the fused kernels into") for e in errors) == [0, 1]
    assert "".join(errors).count("\n") == 1
    assert "about a minute" in "".join(errors)
    calls = tmp_path / "calls"
    assert calls.read_text() == "called\n" * 3  # its version, to compile and to link

    (library,) = (tmp_path / "library").glob(f"seq2seq_small_*/{build.LIBRARY}")
    library.write_bytes(library.read_bytes()[:1000])
    output, complaint = loading_small("again", compiler, tmp_path).communicate(timeout=300)
    assert output == "42\n", complaint
    damaged, compiling = complaint.splitlines()
    assert damaged == f"WARNING {library} is damaged: compiling it again"
    assert compiling.startswith("WARNING compiling the fused kernels into")
    assert calls.read_text() == "called\n" * 6


@pytest.mark.slow  # the same with the real kernels
def test_two_processes_compile_once_and_a_damaged_library_is_compiled_again(tmp_path: Path) -> None:
    quick = unoptimised(tmp_path / "c++")
    started = [in_a_process("auto", tmp_path, CXX=quick) for _ in range(2)]
    outputs, errors = zip(*(p.communicate() for p in started), strict=True)
    assert [p.returncode for p in started] == [0, 0], errors
    assert len(set(outputs)) == 1
    assert (
        sum("compiling the fused kernels into" in e and "about a minute" in e for e in errors) == 1
    )
    assert all("INFO recurrent layers run in fused CPU kernels" in e for e in errors)

    (library,) = tmp_path.rglob(build.LIBRARY)
    library.write_bytes(library.read_bytes()[:1000])
    again = in_a_process("auto", tmp_path, CXX=quick)
    output, complaint = again.communicate()
    assert (again.returncode, output) == (0, outputs[0]), complaint
    assert "is damaged" in complaint
    assert "compiling" in complaint


LOAD = """
import logging
import torch
from seq2seq.rnn import LSTM, load_kernels
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
print(load_kernels("cpu"), load_kernels("cpu", "fused"), load_kernels(backend="reference"))
logging.warning("loaded")
LSTM(3, 4)(torch.ones(2, 2, 3))
"""


@pytest.mark.slow
def test_kernels_are_compiled_in_advance_with_one_warning(tmp_path: Path) -> None:
    done = in_a_process("auto", tmp_path, LOAD).communicate()
    assert done[0] == "True True False\n", done
    before, after = done[1].split("WARNING loaded\n")
    warnings = [line for line in before.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == 1
    assert "compiling the fused kernels into" in warnings[0]
    assert "about a minute" in warnings[0]
    assert after == ""  # the first layer neither compiles nor logs


def test_kernels_that_cannot_be_compiled_are_reported_when_loaded(tmp_path: Path) -> None:
    code = LOAD.replace("print(load", "print(load_kernels())\nprint(load")
    process = in_a_process("auto", tmp_path, code, CXX="no-such-compiler")
    output, errors = process.communicate()
    assert output == "False\n"
    assert errors.count("more slowly: no C++ compiler") == 1
    assert "RuntimeError: backend='fused': no C++ compiler: no-such-compiler" in errors


def test_gpu_kernels_are_loaded_only_if_layers_use_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    monkeypatch.setattr(operators, "gpu_failure", lambda: asked.append("gpu"))
    assert not ops.load_kernels("cuda:1", "reference")
    assert asked == []
    assert ops.load_kernels("cuda:1")
    assert ops.load_kernels("cuda:1", "fused")
    assert asked == ["gpu"] * 2


def test_loading_refuses_an_unknown_backend() -> None:
    with pytest.raises(ValueError, match="backend='cuda': expected 'auto', 'reference' or 'fused'"):
        ops.load_kernels(backend="cuda")


def test_a_change_of_compiler_or_flags_makes_another_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def folder() -> str:
        return build.folder_of(build.LAYERS, build.this_processor())

    before = folder()
    monkeypatch.setenv("CXX", "clang++ -O1")
    assert folder() != before
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(build, "COMPILE_FLAGS", [*build.COMPILE_FLAGS, "-g"])
    assert folder() != before
