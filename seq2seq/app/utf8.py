"""UTF-8 for all text that a command reads and writes, whatever the locale."""

import io
import os
import sys


def restart_in_utf8() -> None:
    """Start the process again where the locale is not UTF-8.

    Python decodes the command line and the names of files by the locale. In its UTF-8 mode
    (PEP 540), which processes of ours inherit, it does not.
    """
    if sys.getfilesystemencoding() != "utf-8" and "utf8" not in sys._xoptions:
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def use_utf8() -> None:
    """Let the standard streams be UTF-8, also where PYTHONIOENCODING says otherwise.

    One that is closed, as by `<&-` in a shell, is the null device from now on.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  (it stays open)
    _reconfigure(sys.stdin, "strict")
    _reconfigure(sys.stdout, "backslashreplace")  # a path may have bytes that are no text
    _reconfigure(sys.stderr, "backslashreplace")


def _reconfigure(stream: object, errors: str) -> None:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8", errors=errors)
