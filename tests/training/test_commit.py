"""Which commit a run names: that of the package's own repository, and never another one's."""

import shutil
import subprocess
from pathlib import Path

import pytest

from seq2seq.training.commit import code_commit

if shutil.which("git") is None:
    pytest.skip("needs git", allow_module_level=True)


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    command = ["git", "-C", str(folder), *settings, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package whose file is committed in a repository of its own, with an ignored .venv."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (tmp_path / ".gitignore").write_text(".venv/\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    git(tmp_path, "tag", "-a", "v9", "-m", "x")
    return folder


def test_the_commit_and_whether_files_were_changed(package: Path) -> None:
    found = code_commit(package)
    assert found == git(package, "rev-parse", "HEAD")
    (package / "__init__.py").write_text("changed = True\n")
    assert code_commit(package) == found  # what was loaded, not what is there by now
    code_commit.cache_clear()
    assert code_commit(package) == f"{found}-dirty"


def test_a_package_installed_inside_another_repository_has_none(package: Path) -> None:
    installed = package.parent / ".venv" / "seq2seq"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert code_commit(installed) is None


def test_no_repository_and_no_git(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert code_commit(tmp_path / "nowhere") is None
    monkeypatch.setenv("PATH", "")
    assert code_commit(package) is None
