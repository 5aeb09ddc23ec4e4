"""From an error to one line and an exit code.

0: done, also after SIGTERM or a signal of SLURM once the run is saved. 1: a failure during the
work. 2: usage, configuration, data, or a package that is not installed. 130: Ctrl-C. 128 plus its
number: another signal, with nothing to save. There is no traceback unless HYDRA_FULL_ERROR=1.
"""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from ..errors import Stopped
from ..files import place
from ..shown import GAP, as_message, escaped
from .streams import named_streams, written
from .utf8 import use_utf8

PACKAGES = {
    "antlr4": ("hydra-core", "app"),
    "filelock": ("filelock", "app"),
    "fontTools": ("fonttools", "app"),
    "hydra": ("hydra-core", "app"),
    "hydra_plugins": ("hydra-joblib-launcher", "app"),
    "jieba": ("jieba", "app"),
    "langcodes": ("langcodes", "app"),
    "matplotlib": ("matplotlib", "app"),
    "numpy": ("numpy", "app"),
    "omegaconf": ("hydra-core", "app"),
    "orjson": ("orjson", "app"),
    "pooch": ("pooch", "app"),
    "rich": ("rich", "app"),
    "sacrebleu": ("sacrebleu", "app"),
    "safetensors": ("safetensors", "app"),
    "scipy": ("scipy", "app"),
    "sentencepiece": ("sentencepiece", "app"),
    "torch": ("torch", "app"),
    "tensorboard": ("tensorboard", "app"),
    "tqdm": ("tqdm", "app"),
    "yaml": ("pyyaml", "app"),
    "zhplot": ("zhplot", "app"),
    "onnx": ("onnx", "onnx"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "onnxscript": ("onnxscript", "onnx"),
    "PIL": ("pillow", "report"),
    "jinja2": ("jinja2", "report"),
    "platformdirs": ("platformdirs", "report"),
    "vl_convert": ("vl-convert-python", "report"),
}
"""Module -> the distribution that has it, and the extra of this project that installs it."""


FAILURE = 1
"""Exit code of a failure during the work."""
WRONG_PLACE = (
    FileNotFoundError,
    PermissionError,
    NotADirectoryError,
    IsADirectoryError,
    FileExistsError,
)
"""Errors of the system about a path that the user has given."""


WAYS_OUT: dict[type[OSError], str] = {
    PermissionError: "its owner can change that (chmod), or choose another place",
    NotADirectoryError: "expected a folder",
    IsADirectoryError: "expected a file",
    FileExistsError: "expected a folder, or a new name",
}
"""Error of the system -> what to do about it; what a missing file is relative to says enough."""


class MissingPackage(RuntimeError):
    """A package that a command needs and that is not installed."""

    def __init__(self, module: str) -> None:
        distribution, extra = PACKAGES[module]
        super().__init__(f"needs {distribution}: pip install 'seq2seq[{extra}]'")


def wants_traceback() -> bool:
    """Return whether the user asked for a traceback."""
    return os.environ.get("HYDRA_FULL_ERROR") == "1"


def _instead(error: OSError) -> str:
    """Return what a person can do about an error of the system."""
    if error.errno == errno.ENAMETOOLONG:
        return "; expected a shorter one"
    return next((f"; {way}" for kind, way in WAYS_OUT.items() if isinstance(error, kind)), "")


def fail(error: BaseException, code: int) -> int:
    """Print an error as one line and return the exit code."""
    if wants_traceback() and not isinstance(error, Stopped):
        raise error
    message = str(error)
    if isinstance(error, OSError) and error.filename is not None:
        missing = isinstance(error, FileNotFoundError)
        where = place(str(error.filename)) if missing else ""
        message = f"{error.filename}: {error.strerror}{where}{_instead(error)}"
    line = f"{Path(sys.argv[0]).name}: {message.strip() or type(error).__name__}"
    whole = isinstance(error, Stopped)  # which names the command that goes on
    shown = escaped(line) if whole else as_message(line)
    print(shown, file=sys.stderr)
    if code == FAILURE and GAP in shown:
        print("HYDRA_FULL_ERROR=1 shows the whole message and where it comes from", file=sys.stderr)
    return code


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise Stopped inside, so that temporary files are removed.

    Training replaces the first by its own handler. A signal that is ignored, as nohup does with
    SIGHUP, stays so. On leaving, the former handlers are back.
    """
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    taken = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise Stopped(f"{signal.Signals(number).name}: ended", 128 + number)

    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def exiting() -> Iterator[None]:
    """Turn an error raised inside into one line about it, and SystemExit with its exit code."""
    use_utf8()
    with named_streams():
        code = 0
        try:
            with ended_by_signals(), written():
                yield
        except Stopped as error:
            code = fail(error, error.exit_code)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            code = 130
        except BrokenPipeError:  # the reader of our output has gone, as in `| head`
            pass
        except ModuleNotFoundError as error:
            module = (error.name or "").partition(".")[0]
            if module not in PACKAGES:
                raise
            code = fail(MissingPackage(module), 2)
        except (MissingPackage, ValueError, *WRONG_PLACE) as error:
            code = fail(error, 2)
        except (RuntimeError, OSError) as error:
            too_long = isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG
            code = fail(error, 2 if too_long else FAILURE)
        if code:
            sys.exit(code)
