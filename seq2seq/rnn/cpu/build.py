"""The C++ kernels in cpu/: compiled at first use into PyTorch's extension cache, and loaded from
there ever after.
"""

import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

LOG = logging.getLogger(__name__)
SOURCES = Path(__file__).parent
LIBRARY = "seq2seq_cpu.so"
VECTOR_FLAGS = {
    "AVX512": [
        "-mavx512f",
        "-mavx512bw",
        "-mavx512dq",
        "-mavx512vl",
        "-mfma",
        "-mprefer-vector-width=512",
    ],
    "AVX2": ["-mavx2", "-mfma"],
}
"""By the vectors that PyTorch itself uses on this machine; others get the compiler's defaults."""
COMPILE_FLAGS = [
    "-O3",
    "-std=c++20",
    "-fPIC",
    "-fopenmp",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-tree-pre",
]
"""The last: gcc would compute in advance what follows where a sigmoid's argument is clamped, and
put branches, which cannot be made vectors, around the rest of the loop; with it batch norm's passes
take half the time."""
SHOWN_LINES = 12
"""Of a compiler's complaint."""


class BuildError(RuntimeError):
    """The kernels cannot be compiled or loaded; the message says why."""


def flags() -> list[str]:
    """For the compiler, except where it finds PyTorch."""
    vectors = VECTOR_FLAGS.get(torch.backends.cpu.get_cpu_capability(), [])
    return [
        *COMPILE_FLAGS,
        *vectors,
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
    ]


def fingerprint() -> str:
    """Of everything that decides what the library holds."""
    parts = [torch.__version__, *compiler(), *flags()]
    parts += [
        file.name + file.read_text(encoding="utf-8") for file in sorted(SOURCES.glob("*.[ch]*"))
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def compiler() -> list[str]:
    """The command: of the variable CXX, else c++."""
    return shlex.split(os.environ.get("CXX", "")) or ["c++"]


def cache() -> Path:
    """Where PyTorch keeps extensions; TORCH_EXTENSIONS_DIR sets it."""
    root = os.environ.get("TORCH_EXTENSIONS_DIR") or Path.home() / ".cache" / "torch_extensions"
    return Path(root) / f"seq2seq_cpu_{fingerprint()}"


def failure() -> str | None:
    """Load the kernels, compiling them where that has not been done; None, or why it cannot be."""
    try:
        load(cache())
    except (
        OSError,
        RuntimeError,
        ValueError,
    ) as error:  # PyTorch, file locks and variables that are not well formed
        return str(error) if error.__cause__ is None else f"{error}: {error.__cause__}"
    return None


def load(folder: Path) -> None:
    """Load the library of this folder. One process compiles while others wait for it; a broken
    library is remade.
    """
    from filelock import FileLock  # PyTorch needs it too

    folder.mkdir(parents=True, exist_ok=True)
    library = folder / LIBRARY
    if not is_whole(library):  # loading half a library kills the process
        with FileLock(folder / "lock"):
            if library.exists() and not is_whole(library):
                LOG.warning("%s is broken: it is remade", library)
            if not is_whole(library):
                build(library)
                checksum(library).write_bytes(digest(library))
    torch.ops.load_library(library)


def is_whole(library: Path) -> bool:
    """Whether it is there and holds what was written."""
    return (
        library.exists()
        and checksum(library).exists()
        and checksum(library).read_bytes() == digest(library)
    )


def checksum(library: Path) -> Path:
    """The file that holds the library's digest."""
    return library.with_suffix(".sha256")


def digest(file: Path) -> bytes:
    """Its SHA-256, as text."""
    return hashlib.sha256(file.read_bytes()).hexdigest().encode()


def build(library: Path) -> None:
    """Compile and link to a temporary name, then rename."""
    command, torch_home = compiler(), Path(torch.__file__).parent
    if shutil.which(command[0]) is None:
        raise BuildError(
            f"no C++ compiler: {command[0]} is not there; expected g++ 11 or newer as c++, or"
            " CXX=COMMAND"
        )
    LOG.warning("compiling the fused kernels into %s: about half a minute, once", library.parent)
    includes = [
        f"-isystem{torch_home / 'include'}",
        f"-isystem{torch_home / 'include/torch/csrc/api/include'}",
    ]
    libraries = [
        f"-L{torch_home / 'lib'}",
        "-ltorch_cpu",
        "-lc10",
    ]  # these bring torch's OpenMP: no second one
    with tempfile.TemporaryDirectory(dir=library.parent) as temporary:
        linked = Path(temporary) / LIBRARY
        sources = sorted(SOURCES.glob("*.cpp"))
        compiled = [str(Path(temporary) / f"{source.stem}.o") for source in sources]
        with ThreadPoolExecutor() as pool:
            list(
                pool.map(
                    run,
                    [
                        [*command, *flags(), *includes, "-c", str(source), "-o", target]
                        for source, target in zip(sources, compiled, strict=True)
                    ],
                )
            )
        run([*command, "-shared", *compiled, *libraries, "-o", str(linked)])
        os.replace(linked, library)


def run(command: list[str]) -> None:
    """Run the compiler; its last lines are the error."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()[-SHOWN_LINES:]
        raise BuildError(
            "\n".join(
                [f"{shlex.join(command[:1])} failed with exit status {done.returncode}:", *lines]
            )
        )
