"""Compilation of the C++ kernels: once, into PyTorch's extension cache, from which they load."""

import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import torch

LOG = logging.getLogger(__name__)
HEADERS = Path(__file__).parent
TORCH_HEADERS = ("include", "include/torch/csrc/api/include")
"""PyTorch's folders of headers, in its own."""
LIBRARY = "kernels.so"
MAKING = ".making-"
"""Start of the name of the folder that is compiled in."""
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
"""Compiler flags by the vector instructions that PyTorch uses on this machine."""
COMPILE_FLAGS = [
    "-O3",
    "-std=c++20",
    "-fPIC",
    "-fvisibility=hidden",
    "-fopenmp",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-tree-pre",
]
"""Without -fno-tree-pre, gcc puts branches around the clamp of a sigmoid's argument, and the loop
is not vectorised: batch norm's passes take twice the time.
"""
GCC_ONLY = ("-fno-tree-pre",)
"""Flags that clang refuses."""
SHOWN = 80
"""Characters of a compiler's output in an error message."""


class BuildError(RuntimeError):
    """A failure to compile or load the kernels."""


class NoCompiler(BuildError):
    """The compiler that was asked for is not there."""


@dataclass(frozen=True)
class Kernels:
    """C++ files of one folder, which become one library."""

    name: str
    """What they are for, in the name of the library's folder."""
    folder: Path


LAYERS = Kernels("layers", HEADERS)


@dataclass(frozen=True)
class Processor:
    """What the kernels use of a processor."""

    capability: str
    """Its vector instructions, in PyTorch's words."""
    pairs: bool = False
    """Whether it multiplies pairs of bfloat16 (AVX512_BF16)."""

    def flags(self) -> list[str]:
        """Return the compiler's flags, except for the paths of PyTorch."""
        return [
            *COMPILE_FLAGS,
            *VECTOR_FLAGS.get(self.capability, []),
            *(["-mavx512bf16"] if self.pairs else []),
            f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
        ]


PROCESSORS = {
    "avx512_bf16": Processor("AVX512", pairs=True),
    "avx512": Processor("AVX512"),
    "avx2": Processor("AVX2"),
    "default": Processor("DEFAULT"),
}
"""The kinds of processors of the x86-64 family."""


def this_processor() -> Processor:
    """Return the processor of this machine, or what PyTorch is allowed to use of it."""
    capability = torch.backends.cpu.get_cpu_capability()
    return Processor(capability, capability == "AVX512" and torch.cpu._is_avx512_bf16_supported())


def fingerprint(kernels: Kernels, processor: Processor) -> str:
    """Return a hash of everything that the compiled library depends on."""
    parts = [torch.__version__, *compiler(), *processor.flags()]
    files = {*kernels.folder.glob("*.[ch]*"), *HEADERS.glob("*.h")}
    parts += [file.name + file.read_text(encoding="utf-8") for file in sorted(files)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def compiler() -> list[str]:
    """Return the compiler's command: the variable CXX, or c++."""
    return shlex.split(os.environ.get("CXX", "")) or ["c++"]


def root() -> Path:
    """Return PyTorch's extension cache: TORCH_EXTENSIONS_DIR, or a folder in the user's cache."""
    given = os.environ.get("TORCH_EXTENSIONS_DIR")
    return Path(given) if given else Path.home() / ".cache" / "torch_extensions"


def folder_of(kernels: Kernels, processor: Processor) -> str:
    """Return the name of a library's folder in PyTorch's extension cache."""
    return f"seq2seq_{kernels.name}_{fingerprint(kernels, processor)}"


def failure(kernels: Kernels = LAYERS) -> str | None:
    """Load the kernels, compiled first if need be; return why that failed, or None."""
    try:
        load(kernels, root())
    except (OSError, RuntimeError, ValueError) as error:  # PyTorch, file locks, a malformed CXX
        return str(error) if error.__cause__ is None else f"{error}: {error.__cause__}"
    return None


def load(kernels: Kernels, cache: Path) -> None:
    """Load these kernels for this machine from a cache of libraries."""
    torch.ops.load_library(compiled(kernels, cache, this_processor()))


def compiled(kernels: Kernels, cache: Path, processor: Processor) -> Path:
    """Return the library of these kernels in a cache of libraries, compiled first if need be.

    One process compiles it while others wait. A damaged library is compiled again. Raises
    BuildError.
    """
    from filelock import FileLock  # PyTorch needs it too

    folder = cache / folder_of(kernels, processor)
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / LIBRARY
    if not is_whole(library):  # a truncated library would crash the process
        with FileLock(folder / "lock"):
            if library.exists() and not is_whole(library):
                LOG.warning("%s is damaged: compiling it again", library)
            if not is_whole(library):
                build(kernels, library, processor)
                checksum(library).write_bytes(digest(library))
    return library


def is_whole(library: Path) -> bool:
    """Return whether the library exists and matches its checksum."""
    return (
        library.exists()
        and checksum(library).exists()
        and checksum(library).read_bytes() == digest(library)
    )


def checksum(library: Path) -> Path:
    """Return the path of the library's checksum."""
    return library.with_suffix(".sha256")


def digest(file: Path) -> bytes:
    """Return a file's SHA-256 in hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest().encode()


def build(kernels: Kernels, library: Path, processor: Processor) -> None:
    """Compile and link the library under a temporary name, then rename it."""
    command, torch_home = compiler(), Path(torch.__file__).parent
    if shutil.which(command[0]) is None:
        raise NoCompiler(
            f"no C++ compiler: {command[0]} was not found; expected g++ 11 or newer as c++, or"
            " CXX=COMMAND"
        )
    LOG.warning(
        "compiling the fused kernels into %s: takes about a minute, only once", library.parent
    )
    includes = [f"-I{HEADERS}", *(f"-isystem{torch_home / part}" for part in TORCH_HEADERS)]
    clang = is_clang(command)
    chosen = [flag for flag in processor.flags() if not (clang and flag in GCC_ONLY)]
    # torch_cpu brings gcc's OpenMP: a second one must not be linked. Code of clang calls LLVM's.
    openmp = ["-fopenmp"] if clang else []
    libraries = [f"-L{torch_home / 'lib'}", "-ltorch_cpu", "-lc10", *openmp]
    for abandoned in library.parent.glob(
        f"{MAKING}*"
    ):  # we hold the lock: left by a killed process
        shutil.rmtree(abandoned, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=library.parent, prefix=MAKING) as temporary:
        linked = Path(temporary) / LIBRARY
        sources = sorted(kernels.folder.glob("*.cpp"))
        compiled = [str(Path(temporary) / f"{source.stem}.o") for source in sources]
        commands = [
            [*command, *chosen, *includes, "-c", str(source), "-o", target]
            for source, target in zip(sources, compiled, strict=True)
        ]
        with ThreadPoolExecutor() as pool:
            list(pool.map(run, commands, repeat(library.parent)))
        run([*command, "-shared", *compiled, *libraries, "-o", str(linked)], library.parent)
        os.replace(linked, library)


def is_clang(command: list[str]) -> bool:
    """Return whether a compiler is clang, whatever its name; False if it does not say."""
    asked = [*command, "--version"]
    done = subprocess.run(asked, capture_output=True, text=True, errors="replace", check=False)
    return "clang" in done.stdout


def run(command: list[str], folder: Path) -> None:
    """Run a compiler; raise BuildError if it fails, and leave what it printed in the folder."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        printed = (done.stderr or done.stdout).strip()
        output = folder / f"{Path(command[-1]).stem}.log"
        output.write_text(printed + "\n", encoding="utf-8")
        lines = printed.splitlines() or ["it printed nothing"]
        line = next((line for line in lines if "error:" in line), lines[-1]).strip()
        raise BuildError(
            f"{shlex.join(command[:1])} failed with exit status {done.returncode}"
            f" ({line[:SHOWN]}); see {output}"
        )
