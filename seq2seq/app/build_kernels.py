"""Compile the kernels beforehand, for machines that have no compiler.

    python scripts/build_kernels.py --out kernels
    python scripts/build_kernels.py --out kernels --processors avx2,avx512_bf16

The other machines need the same version of torch, the same version of this project, a C library
that is as new as here, and the folder: they find it by TORCH_EXTENSIONS_DIR. Nothing is compiled
that the folder has already. Where the project is installed, `seq2seq-build-kernels` is the same
command.
"""

import argparse
import os
import platform
import shlex

from ..errors import DataError
from ..shown import escaped
from .arguments import output_folder, parser, some_of

KINDS = ("avx512_bf16", "avx512", "avx2", "default")
"""Kinds of processors, the newest first; default: any of the family."""
THIS = "this"
X86 = ("x86_64", "amd64")
"""Names of the family in which there are these kinds."""


def options() -> argparse.Namespace:
    """Parse the command line."""
    command = parser(__doc__)
    command.add_argument(
        "--out",
        required=True,
        type=output_folder,
        metavar="DIR",
        help="the folder for the libraries",
    )
    command.add_argument(
        "--processors",
        type=some_of((THIS, *KINDS)),
        default=[THIS],
        metavar="KINDS",
        help=f"for which kinds, with commas: {', '.join((THIS, *KINDS))}; this: that of this"
        " machine (default: this)",
    )
    asked = command.parse_args()
    others = [kind for kind in asked.processors if kind != THIS]
    if others and platform.machine().lower() not in X86:
        command.error(
            f"--processors {others[0]}: this machine's processor is {platform.machine()}; expected"
            f" {THIS}"
        )
    return asked


def main() -> None:
    """Compile for each kind of processor; say where the libraries are, and how they are found."""
    asked = options()
    import torch

    from ..model.kernels import NoCompiler, prebuild

    for kind in asked.processors:
        try:
            prebuild(asked.out, None if kind == THIS else kind)
        except NoCompiler as error:
            raise DataError(f"{kind}: {error}") from error
        except RuntimeError as error:
            raise RuntimeError(f"{kind}: {error}") from error
        print(f"{kind}: compiled into {escaped(str(asked.out))}")
    compiler = f" CXX={shlex.quote(os.environ['CXX'])}" if os.environ.get("CXX") else ""
    found = f"TORCH_EXTENSIONS_DIR={shlex.quote(str(asked.out.resolve()))}{compiler}"
    print(f"with torch {torch.__version__}: {escaped(found)}")
