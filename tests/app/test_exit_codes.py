"""Errors become one line of text and an exit code."""

import pickle
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import exit_code
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from seq2seq.app import exit_codes
from seq2seq.app.names import run_name
from seq2seq.errors import Stopped, TrainingError

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("bad value"), 2),
        (FileNotFoundError(2, "No such file", "x.txt"), 2),
        (TrainingError("not finite"), 1),
        (OSError(28, "No space left on device", "x.txt"), 1),
        (OSError(36, "File name too long", "x.txt"), 2),
        (Stopped("saved", 0), 0),
        (Stopped("saved", 130), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(
    error: ValueError | FileNotFoundError | TrainingError | OSError | Stopped | KeyboardInterrupt,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def main() -> None:
        raise error

    assert exit_code(main) == code
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    assert printed.count("\n") == 1
    if isinstance(error, OSError):
        assert "x.txt: " in printed


def test_a_long_failure_says_how_to_see_all_of_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def main() -> None:
        raise RuntimeError("out of memory " * 50)

    assert exit_code(main) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert len(first) <= 200
    assert second.startswith("HYDRA_FULL_ERROR=1 shows the whole message")


def test_a_traceback_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def main() -> None:
        raise ValueError("bad value")

    with pytest.raises(ValueError, match="bad value"):
        exit_code(main)


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(TypeError):
        exit_code(lambda: run_name(None, [], 1))  # type: ignore[arg-type]


def test_a_stop_keeps_its_message_and_code_when_pickled() -> None:
    """The launcher of a sweep pickles it. If that failed, the command to resume would be lost."""
    stopped = pickle.loads(pickle.dumps(Stopped("SIGTERM: saved", 130)))
    assert (type(stopped), str(stopped), stopped.exit_code) == (Stopped, "SIGTERM: saved", 130)


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setattr("sys.argv", ["/usr/bin/seq2seq-train", "norm=layer"])
    for module, line in (
        ("hydra.core", "seq2seq-train: needs hydra-core: pip install 'seq2seq[app]'\n"),
        ("vl_convert", "seq2seq-train: needs vl-convert-python: pip install 'seq2seq[report]'\n"),
    ):

        def main(module: str = module) -> None:
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)

        assert exit_code(main) == 2
        assert capsys.readouterr().err == line


def test_a_missing_module_of_this_project_is_a_bug() -> None:
    with pytest.raises(ModuleNotFoundError):
        exit_code(lambda: __import__("seq2seq.nothing"))


def test_every_optional_package_is_in_an_extra() -> None:
    project = PROJECT["project"]
    for distribution, extra in exit_codes.PACKAGES.values():
        needed = project["dependencies"] + project["optional-dependencies"][extra]
        assert distribution in {canonicalize_name(Requirement(r).name) for r in needed}


@pytest.mark.parametrize("command", ["translate", "evaluate", "score"])
def test_help_needs_no_package(command: str) -> None:
    """Where nothing but the wheel is installed, --help still says what a command does."""
    program = f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set(exit_codes.PACKAGES) - {"hydra_plugins"}!r}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Missing())
from seq2seq.app.commands import {command}
sys.argv = ["{command}", "--help"]
{command}()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")
