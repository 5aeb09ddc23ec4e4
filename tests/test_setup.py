"""Set-up: the Makefile makes the environment once, from pins that name every package."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from setuptools import find_namespace_packages

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = PROJECT["project"]["optional-dependencies"]
FAKE_PYTHON = """#!/bin/sh
# Writes down what it is asked for, and "makes" an environment that does the same.
echo "python $*" >> "$LOG"
case "$*" in
  "-m venv .venv") mkdir -p .venv/bin && for name in python ruff mypy clang-format codespell; do cp "$0" .venv/bin/$name; done ;;
  *"pip install"*) exit ${PIP_FAILS:-0} ;;
esac
"""


@dataclass
class Made:
    """The result of make, and the commands that the fake Python received."""

    returncode: int
    stdout: str
    stderr: str
    asked: list[str]


@dataclass
class Make:
    """make in a copy of the set-up files, with a fake Python that only logs its commands."""

    folder: Path

    def __call__(self, *arguments: str, python: str | None = None, **variables: str) -> Made:
        """Run make with some arguments and environment variables."""
        log = self.folder / "log"
        log.write_text("")
        kept = {
            key: value
            for key, value in os.environ.items()
            if key not in ("MAKEFLAGS", "MAKELEVEL", "PYTHON")
        }
        done = subprocess.run(
            ["make", *arguments, f"PYTHON={python or self.folder / 'fake-python'}"],
            cwd=self.folder,
            capture_output=True,
            text=True,
            env=kept | {"LOG": str(log)} | variables,
        )
        asked = [line.replace("python ", "", 1) for line in log.read_text().splitlines()]
        return Made(done.returncode, done.stdout, done.stderr, asked)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Copy the set-up files, and write a fake Python that only logs its commands."""
    for name in SET_UP:
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / "fake-python"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    return Make(tmp_path)


PIP = "-m pip install --quiet --disable-pip-version-check"
INSTALL = [
    f"{PIP} --require-hashes --no-deps -r requirements.txt",
    f"{PIP} -c constraints.txt torch",
    f"{PIP} --no-deps --no-build-isolation -e .",
]
SET_UP = ("Makefile", "constraints.txt", "requirements.txt", "pyproject.toml")


def stamps(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / ".venv").glob(".ready-*"))


# -- make ---


def test_help_lists_every_target(make: Make) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert {"compare", "test", "test-all", "lint", "types", "bench", "help"} <= targets
    for done in (make("help"), make()):
        assert (done.returncode, done.stderr, done.asked) == (0, "", [])
        listed = dict(re.findall(r"^  make ([a-z-]+) +(\S.*)$", done.stdout, re.M))
        assert listed.keys() == targets


def test_the_environment_is_made_once(make: Make) -> None:
    first = make("setup")
    assert first.returncode == 0, first.stderr
    assert first.asked[0].startswith("-c import sys")
    assert first.asked[1:] == ["-m venv .venv", *INSTALL]
    assert len(stamps(make.folder)) == 1
    for target in ("setup", "setup"):
        assert make(target).asked == []
    for name in SET_UP:
        os.utime(make.folder / name)  # newer, with the same content
    assert make("setup").asked == []


@pytest.mark.parametrize("name", SET_UP[1:])
def test_the_environment_is_made_again_if_the_pins_change(make: Make, name: str) -> None:
    make("setup")
    before = stamps(make.folder)
    text = (make.folder / name).read_text()
    (make.folder / name).write_text(text + "\n# another\n")
    os.utime(make.folder / name, (0, 0))  # dates do not matter
    assert make("setup").asked[2:] == INSTALL
    after = stamps(make.folder)
    assert len(after) == 1
    assert after != before
    assert make("setup").asked == []
    (make.folder / name).write_text(text)
    assert make("setup").asked[2:] == INSTALL
    assert stamps(make.folder) == before


def test_a_failed_set_up_is_tried_again(make: Make) -> None:
    done = make("test", PIP_FAILS="1")
    assert done.returncode == 2
    assert stamps(make.folder) == []
    assert "-m pytest" not in done.asked
    assert make("test").asked[1:] == ["-m venv .venv", *INSTALL, "-m pytest"]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("test", ["-m pytest"]),
        ("test-all", ["-m pytest -m "]),
        ("bench", ["scripts/benchmark.py layers"]),
        ("lint", ["check .", "format --check .", "--dry-run --Werror", ""]),
        ("types", [""]),
        (
            "compare",
            [
                "train.py -m norm=none,batch,layer",
                (
                    "scripts/compare.py outputs/grammar_en_zh/none-lstm-small-seed1"
                    " outputs/grammar_en_zh/batch-lstm-small-seed1"
                    " outputs/grammar_en_zh/layer-lstm-small-seed1 --out ."
                ),
            ],
        ),
    ],
)
def test_a_target_sets_up_and_runs(make: Make, target: str, expected: list[str]) -> None:
    done = make(target)
    assert done.returncode == 0, done.stderr
    assert done.asked[1:5] == ["-m venv .venv", *INSTALL]
    assert done.asked[5:] == expected
    assert make(target).asked == expected


@pytest.mark.parametrize("there", [False, True])
def test_a_browser_is_installed_if_there_is_none(make: Make, there: bool) -> None:
    programs = make.folder / "programs"
    programs.mkdir()
    for name in ("apt-get", *(["chromedriver"] if there else [])):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "$LOG"\n')
        (programs / name).chmod(0o755)
    for name in ("make", "sh", "cat", "cksum", "cut"):  # and no other program of this machine
        program = shutil.which(name)
        assert program, name
        (programs / name).symlink_to(program)
    done = make("browser", PATH=str(programs))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert done.asked == (
        []
        if there
        else [
            "apt-get update -qq",
            "apt-get install -y -qq --no-install-recommends chromium chromium-driver",
        ]
    )


def test_clean_keeps_runs_and_data(make: Make) -> None:
    make("setup")
    kept = ["outputs/a/results.json", "data/prepared/x"]
    for name in (*kept, ".pytest_cache/x", ".mypy_cache/x"):
        (make.folder / name).parent.mkdir(parents=True)
        (make.folder / name).touch()
    assert make("clean").returncode == 0
    assert all((make.folder / name).exists() for name in kept)
    assert not any(
        (make.folder / name).exists() for name in (".venv", ".pytest_cache", ".mypy_cache")
    )


@pytest.mark.parametrize(
    ("version", "fits"), [("3.10.12", False), ("3.11.0", True), ("3.14.1", True)]
)
def test_an_older_python_is_refused(make: Make, version: str, fits: bool) -> None:
    """The check of the Makefile runs in an interpreter with a changed version number."""
    numbers = tuple(map(int, version.split(".")))
    script = make.folder / "other-python"
    script.write_text(f"""#!/bin/sh
[ "$1" = -c ] && exec {sys.executable} -c "import sys; sys.version_info = {numbers}; sys.version = '{version} (main)'
$2"
exec "{make.folder}/fake-python" "$@"
""")
    script.chmod(0o755)
    done = make("test", python=str(script))
    assert (done.returncode == 0) == fits
    if not fits:
        assert (
            f"is Python {version}: Python 3.11 or newer is needed (make PYTHON=python3.12 ...)"
            in done.stderr
        )
        assert not (make.folder / ".venv").exists()
        assert done.asked == []


def test_an_old_python_can_parse_the_version_check() -> None:
    """An old Python stops at an f-string before it can print the message."""
    check = re.search(r"-c '(import sys; .*)'$", (ROOT / "Makefile").read_text(), re.M)
    assert check
    ast.parse(check[1], feature_version=(3, 4))
    assert not re.search(r"\bf[\"']", check[1])


def test_a_missing_python_is_named(make: Make) -> None:
    done = make("setup", python="python-nowhere")
    assert done.returncode != 0
    assert "python-nowhere" in done.stderr


# -- an existing environment ---


@pytest.mark.parametrize("version", ["2.10.0", "2.11.1+cu128", "2.13.0+cpu", "2.99.0", "3.0.0"])
def test_an_installed_torch_that_fits_is_kept(version: str) -> None:
    (torch,) = (
        r for r in map(Requirement, PROJECT["project"]["dependencies"]) if r.name == "torch"
    )
    assert version in torch.specifier
    assert {spec.operator for spec in torch.specifier} == {">="}
    assert "2.9.1" not in torch.specifier


def test_the_layer_needs_only_torch() -> None:
    assert [Requirement(r).name for r in PROJECT["project"]["dependencies"]] == ["torch"]
    names = {"app", "report", "ja", "ko", "zstd", "slurm", "ray", "tune", "onnx", "dev"}
    assert EXTRAS.keys() == names


def test_the_extra_for_developers_has_what_the_commands_need() -> None:
    (own,) = (r for r in map(Requirement, EXTRAS["dev"]) if r.name == "seq2seq")
    assert own.extras >= {"app", "report", "ja"}


def test_every_requirement_has_only_a_lower_bound() -> None:
    """A newer release of a package must not make the project impossible to install."""
    for text in (*PROJECT["project"]["dependencies"], *(r for e in EXTRAS.values() for r in e)):
        assert {spec.operator for spec in Requirement(text).specifier} <= {">="}, text


def test_every_console_command_is_a_function() -> None:
    scripts = PROJECT["project"]["scripts"]
    for command, target in scripts.items():
        module, _, function = target.partition(":")
        named = f"seq2seq-{function.replace('_', '-')}"
        assert (module, named) == ("seq2seq.app.commands", command)
        assert callable(getattr(import_module(module), function))
    assert {f"seq2seq-{name}" for name in ("train", "prepare", "translate", "evaluate")} <= set(
        scripts
    )


def test_the_package_holds_the_configuration_and_the_grammar() -> None:
    """They are links to the folders at the top, so that there is one copy."""
    for link, folder in (("configs", "configs"), ("data/grammar_en_zh", "data/grammar_en_zh")):
        path = ROOT / "seq2seq" / link
        assert path.is_symlink()
        assert not Path(os.readlink(path)).is_absolute()
        assert path.resolve() == ROOT / folder
    data = PROJECT["tool"]["setuptools"]["package-data"]
    for package, patterns in data.items():
        for pattern in patterns:
            parent = ROOT / ("seq2seq" if package == "*" else package.replace(".", "/"))
            assert list(parent.glob(pattern if package != "*" else f"configs/{pattern}")), pattern


def test_the_build_needs_no_torch() -> None:
    assert [Requirement(r).name for r in PROJECT["build-system"]["requires"]] == ["setuptools"]
    assert not (ROOT / "setup.py").exists()
    # The version is read from a file that imports nothing, so that it can be read without running
    # it.
    tree = ast.parse((ROOT / "seq2seq" / "__init__.py").read_text(encoding="utf-8"))
    assert not any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.walk(tree))
    assert any(
        isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__"
        for node in tree.body
    )


def test_every_package_of_ours_is_installed() -> None:
    packages = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("seq2seq", "hydra_plugins")
        for path in (ROOT / top).rglob("*.py")
    }
    finder = PROJECT["tool"]["setuptools"]["packages"]["find"]
    found = find_namespace_packages(str(ROOT), include=finder["include"])
    assert packages <= set(found)
    assert not [
        name for name in found if name.partition(".")[0] not in ("seq2seq", "hydra_plugins")
    ]


def test_the_makefile_and_the_package_require_the_same_python() -> None:
    assert PROJECT["project"]["requires-python"] == ">=3.11"
    assert "sys.version_info >= (3, 11)" in (ROOT / "Makefile").read_text()
    assert sys.version_info >= (3, 11)


def test_the_wheel_gets_every_file_of_the_package() -> None:
    """setuptools takes those that a pattern of package-data names, beside a package's modules."""
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    for path in (ROOT / "seq2seq").rglob("*"):
        if path.is_dir() or path.suffix in (".py", ".pyc"):
            continue
        taken = set(path.parent.glob(patterns["*"][0]))
        for folder in path.relative_to(ROOT).parents:
            for pattern in patterns.get(".".join(folder.parts), []):
                taken |= set((ROOT / folder).glob(pattern))
        assert path in taken, path
