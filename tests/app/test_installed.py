"""A wheel in a separate environment, used from an empty folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = shutil.ignore_patterns(
    ".*", "outputs", "build", "*.egg-info", "prepared", "__pycache__", "comparison*"
)
SMALL = [
    "model=tiny",
    "tokenizer=word",
    "tokenizer.vocab_size=200",
    *(f"data.grammar_splits.{split}.count=60" for split in ("train", "valid", "test")),
    "data.test.source=test.en",
    "trainer.max_updates=2",
    "trainer.progress=false",
    "trainer.threads=1",
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel, built from a copy of the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", symlinks=True, ignore=LEFT_OUT)
    build = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder), "."]
    subprocess.run([sys.executable, "-m", *build], cwd=folder / "source", check=True)
    (file,) = folder.glob("seq2seq-*.whl")
    shutil.rmtree(folder / "source")
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an environment with only the wheel."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    install = ["pip", "--python", str(python), "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run([sys.executable, "-m", *install], check=True)
    return folder


@pytest.fixture(scope="module")
def complete(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an environment with the wheel and the packages of this environment."""
    folder = tmp_path_factory.mktemp("complete")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    install = ["pip", "--python", str(folder / "bin" / "python"), "install", "--quiet", "--no-deps"]
    subprocess.run([sys.executable, "-m", *install, "--ignore-installed", wheel], check=True)
    return folder


def run(
    environment: Path, cwd: Path, command: str, *arguments: object, stdin: str = ""
) -> "subprocess.CompletedProcess[str]":
    """Run a command of an environment in a folder."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "HYDRA", "SEQ2SEQ"))}
    return subprocess.run(
        [environment / "bin" / command, *map(str, arguments)],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        env=kept,
    )


def test_the_wheel_holds_files_where_the_repository_has_links(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        grammar = archive.read("seq2seq/data/grammar_en_zh/grammar.txt")
    assert grammar == (ROOT / "data" / "grammar_en_zh" / "grammar.txt").read_bytes()
    configs = {f"seq2seq/{path.relative_to(ROOT)}" for path in ROOT.glob("configs/**/*.yaml")}
    assert configs <= names
    files = [path for path in (ROOT / "seq2seq").rglob("*") if path.is_file()]
    own = {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}
    assert own <= names
    assert not [n for n in names if n.split("/")[0] not in ("seq2seq", "hydra_plugins") and (
        ".dist-info/" not in n
    )]  # fmt: skip


def test_missing_packages_are_named_with_the_command_that_installs_them(
    installed: Path, tmp_path: Path
) -> None:
    done = run(installed, tmp_path, "seq2seq-train", "norm=layer")
    line = "seq2seq-train: needs hydra-core: pip install 'seq2seq[app]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)
    for command in ("translate", "evaluate"):
        assert run(installed, tmp_path, f"seq2seq-{command}", "--help").returncode == 0
        done = run(installed, tmp_path, f"seq2seq-{command}", "run")
        assert done.returncode == 2
        assert done.stderr.startswith(f"seq2seq-{command}: needs "), done.stderr
        assert done.stderr.count("\n") == 1


def test_a_wheel_trains_translates_evaluates_and_compares_anywhere(
    complete: Path, tmp_path: Path
) -> None:
    where = run(complete, tmp_path, "python", "-c", "import seq2seq; print(seq2seq.__file__)")
    assert where.stdout.startswith(str(complete))
    for norm in ("layer", "none"):
        done = run(complete, tmp_path, "python", "-m", "seq2seq.train", f"norm={norm}", *SMALL)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
    runs = sorted(path.parent for path in tmp_path.glob("outputs/*/*/results.json"))
    assert [folder.name.partition("-")[0] for folder in runs] == ["layer", "none"]
    assert run(complete, tmp_path, "seq2seq-train", "norm=none", *SMALL).stdout.startswith("finish")
    done = run(complete, tmp_path, "seq2seq-translate", runs[0], stdin="the dog sleeps\n\n")
    assert (done.returncode, done.stdout.count("\n")) == (0, 2), done.stderr
    done = run(complete, tmp_path, "seq2seq-evaluate", *runs, "--beam", 1)
    assert done.returncode == 0, done.stderr
    assert "test, 60 sentences" in done.stdout
    (tmp_path / "lines").write_text("the dog sleeps\n", encoding="utf-8")
    pair = ("--source", "lines", "--target", "lines")
    done = run(complete, tmp_path, "seq2seq-score", runs[0], *pair)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\t") == done.stdout.count("\n") == 1
    done = run(complete, tmp_path, "seq2seq-prepare", *SMALL[1:-3])
    assert done.returncode == 0, done.stderr
    assert "word vocabulary, en: " in done.stdout
    done = run(complete, tmp_path, "seq2seq-compare", *runs, "--out", "comparison")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "comparison" / "report.html").is_file()
    commands = (tmp_path / "comparison" / "report.md").read_text(encoding="utf-8")
    assert "\n    seq2seq-train -m norm=" in commands
    assert "\n    seq2seq-compare " in commands
    assert {path.name for path in tmp_path.iterdir()} == {"outputs", "data", "comparison", "lines"}
