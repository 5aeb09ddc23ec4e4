"""Files and folders that are written whole or not at all."""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

TEMPORARY = ".tmp"
"""End of the name of a file that is being written."""


def _owner() -> str:
    """Return the part of a temporary name that says which process owns it."""
    return f"{_host()}.{os.getpid()}"


def _host() -> str:
    return re.sub(r"[^\w-]", "-", socket.gethostname()) or "host"


def remove_abandoned(folder: Path, prefix: str) -> None:
    """Remove temporary files and folders whose process on this machine has ended.

    Their names start with `prefix`, followed by machine and process. Python cannot remove them
    itself where a process is killed.
    """
    owned = re.compile(rf"{re.escape(prefix + _host())}\.(\d+)[.-].*")
    # Path.glob takes four times as long in a large folder.
    for name in [name for name in os.listdir(folder) if name.startswith(prefix)]:
        if (found := owned.fullmatch(name)) and not is_alive(int(found[1])):
            path = folder / name
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def remove_temporary(folder: Path, name: str = "*") -> None:
    """Remove the temporary files of a file, or of all, that no other process can be writing now."""
    for path in folder.glob(f".{name}.*.*{TEMPORARY}"):
        path.unlink(missing_ok=True)


def is_alive(process: int) -> bool:
    """Return whether a process of this machine may still be running."""
    if os.name != "posix":  # elsewhere a signal of 0 would end it
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):  # larger than any process number
        return False
    except OSError:  # of another user
        return True
    return True


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in any OSError raised while it is written, such as on a full disk.

    Of a file that is written inside, that file's name stays.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error.__cause__, OSError):
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the path of a temporary file that replaces `path` at the end; remove it on an error.

    The temporary file is flushed to the disk before it is renamed. At any moment `path` is
    therefore a whole file, either the older or the newer one. It gets the mode that the system
    gives a new file there, by the umask, whatever mode the writer gives it. A link is replaced, and
    not its target: a folder from elsewhere must not write to other places.

    OSError where `path` is a device or a pipe, which cannot be replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    check_replaceable(path)
    remove_abandoned(path.parent, f".{path.name}.")
    temporary = _temporary(path)
    try:
        with naming(path):
            temporary.touch()
            mode = stat.S_IMODE(temporary.stat().st_mode)
            yield temporary
            temporary.chmod(mode)
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_replaceable(path: Path) -> None:
    """Raise OSError where there is a device, a pipe or a socket, or a link to one."""
    try:
        mode = path.stat().st_mode
    except OSError:  # nothing, or a link to nothing
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(errno.EINVAL, "a device or a pipe; expected a file", str(path))


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{_owner()}{TEMPORARY}")


def give_usual_mode(path: Path) -> None:
    """Give a file the mode that the system gives a new file there, by the umask."""
    probe = _temporary(path)
    try:
        probe.touch()
        path.chmod(stat.S_IMODE(probe.stat().st_mode))
    finally:
        probe.unlink(missing_ok=True)


@contextlib.contextmanager
def temporary_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Give an empty folder inside `parent`, and remove it at the end.

    Its name starts with `prefix`. Those that a killed process left are removed first.
    """
    parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(parent, prefix)
    with tempfile.TemporaryDirectory(dir=parent, prefix=f"{prefix}{_owner()}-") as temporary:
        yield Path(temporary)


@contextlib.contextmanager
def new_folder(path: Path, prefix: str) -> Iterator[Path]:
    """Give a temporary folder that is renamed to `path` at the end; remove it on an error.

    The temporary folder is inside one whose name starts with `prefix`. Where another process has
    made `path` in the meantime, that folder is kept.
    """
    with temporary_folder(path.parent, prefix) as temporary:
        made = temporary / path.name
        made.mkdir()
        yield made
        try:
            os.rename(made, path)
        except OSError:
            if not path.is_dir():
                raise


def exists(path: Path) -> bool:
    """Return whether a file or folder exists; PermissionError where that may not be known.

    A link in a circle exists: it is an error to read it, and not the same as no file.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    return True


def place(path: str | Path) -> str:
    """Return " in FOLDER" with the working directory, which a relative path begins in."""
    return "" if os.path.isabs(path) else f" in {os.getcwd()}"


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def kept_text(path: Path, make: Callable[[], str]) -> str:
    """Return what `make` returns, from a file of a cache if one was written before.

    A file that is damaged or cannot be read or written is as good as none.
    """
    try:
        checksum, _, kept = path.read_bytes().partition(b"\n")
        if checksum == _digest(kept):
            return kept.decode()
    except OSError:
        pass
    text = make()
    content = text.encode()
    with contextlib.suppress(OSError), replacing(path) as temporary:
        temporary.write_bytes(_digest(content) + b"\n" + content)
    return text


def _digest(content: bytes) -> bytes:
    """Return the SHA-256 of some bytes in hexadecimal."""
    return hashlib.sha256(content).hexdigest().encode()
