"""Rules for the whole code: imports between rooms, sizes, no dead options."""

import ast
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from seq2seq import config

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "seq2seq").rglob("*.py"))


def name_of(path: Path) -> str:
    """Return a file's module: seq2seq.rnn.reference; a package has the name of its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def imported(name: str, node: ast.Import | ast.ImportFrom) -> list[str]:
    """Return the modules that an import statement of a module names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        package = name.split(".") if MODULES[name].name == "__init__.py" else name.split(".")[:-1]
        base = ".".join(
            [*package[: len(package) - node.level + 1], *([node.module] if node.module else [])]
        )
    return [full if (full := f"{base}.{alias.name}") in MODULES else base for alias in node.names]


def imports(name: str, everywhere: bool = False) -> set[str]:
    """Return what a module imports when it is loaded; with `everywhere` also in its functions."""
    nodes = ast.walk(TREES[name]) if everywhere else TREES[name].body
    return {
        module
        for node in nodes
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for module in imported(name, node)
    }


def ours(modules: set[str]) -> set[str]:
    return {module for module in modules if module.partition(".")[0] == "seq2seq"}


# -- imports ---


def test_imports_are_parsed_correctly() -> None:
    assert {"seq2seq.rnn.reference", "seq2seq.rnn.fused"} <= imports("seq2seq.rnn.backends")
    assert {"seq2seq.config", "seq2seq.translation.search", "torch"} <= imports(
        "seq2seq.translation.lines"
    )
    assert "seq2seq.translation.lines" not in imports("seq2seq.app.options")
    assert "seq2seq.translation.lines" in imports("seq2seq.app.options", everywhere=True)


def test_imports_have_no_cycle() -> None:
    left = {name: ours(imports(name)) - {name} for name in MODULES}
    while left:
        free = {name for name, needs in left.items() if not needs & left.keys()}
        assert free, f"a cycle among {sorted(left)}"
        left = {name: needs for name, needs in left.items() if name not in free}


ROOMS = {
    "errors": set(),
    "programs": set(),
    "files": set(),
    "parent": set(),
    "stored": {"errors", "files", "shown"},
    "unchanged": {"errors", "files", "stored"},
    "rnn": set(),
    "config": {"rnn", "shown"},
    "shown": {"errors"},
    "fonts": {"shown"},
    "figures": {"files", "fonts"},
    "device": {"config"},
    "other_work": set(),
    "data": {"parent", "config", "errors", "files", "shown", "stored", "unchanged"},
    "model": {"rnn", "config"},
    "runs": {"rnn", "config", "errors", "files", "programs", "shown", "stored"},
    "translation": {
        *("rnn", "config", "data", "runs", "model", "device", "errors", "figures", "shown"),
        *("files", "other_work"),
    },
    "probes": {"rnn", "config", "data", "runs", "model", "device", "translation"},
    "training": {
        *("rnn", "config", "data", "runs", "model", "device", "errors", "figures"),
        *("other_work", "shown", "stored", "translation", "probes"),
    },
    "export": {"rnn", "config", "data", "runs", "model", "translation"},
    "report": {
        *("rnn", "config", "runs", "errors", "files", "figures", "fonts", "shown", "translation"),
    },
    "app": {
        *("parent", "config", "data", "runs", "device", "errors", "files", "programs", "shown"),
        *("translation", "training", "report", "data_report", "figures"),
        *("export", "model"),
    },
    "data_report": {"config", "data", "figures", "fonts", "shown"},
    "train": {"app"},
    "benchmark": {
        *("rnn", "config", "data", "runs", "model", "device", "figures", "fonts", "files"),
        *("translation", "training", "app", "shown", "parent"),
    },
}
"""What each room, or module outside of them, may import."""


def room(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def test_each_room_imports_only_what_is_below_it() -> None:
    needed: dict[str, set[str]] = {}
    for name in MODULES:
        others = {room(m) for m in ours(imports(name, everywhere=True))} - {"", room(name)}
        needed.setdefault(room(name), set()).update(others)
    needed.pop("")
    assert needed == ROOMS


def test_the_architecture_page_says_what_each_room_may_import() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", text, re.M)
    listed = {name: set(re.findall(r"`(\w+)`", cell)) for name, cell in rows}
    rooms = {room(name) for name, path in MODULES.items() if path.name == "__init__.py"} - {""}
    assert listed == {name: ROOMS[name] & rooms for name in rooms}


def test_the_rooms_have_an_order() -> None:
    left = dict(ROOMS)
    while left:
        free = {name for name, needs in left.items() if not needs & left.keys()}
        assert free, f"a cycle among {sorted(left)}"
        left = {name: needs for name, needs in left.items() if name not in free}


def test_a_report_imports_only_the_scores_of_translation() -> None:
    used = {
        module
        for name in MODULES
        if room(name) == "report"
        for module in ours(imports(name, everywhere=True))
        if room(module) == "translation"
    }
    assert used == {"seq2seq.translation.scores"}


def test_only_app_imports_hydra() -> None:
    for package, allowed in (
        (
            "hydra",
            (
                "composition",
                "explanations",
                "fine_tuning",
                "names",
                "overrides",
                "sources",
                "typed",
            ),
        ),
        (
            "omegaconf",
            (
                "composition",
                "data_report",
                "explanations",
                "fine_tuning",
                "prepare",
                "sources",
                "train",
            ),
        ),
    ):
        users = {
            name
            for name in MODULES
            if any(m.partition(".")[0] == package for m in imports(name, everywhere=True))
        }
        assert users == {f"seq2seq.app.{name}" for name in allowed}, package


def test_nothing_that_is_read_is_executed() -> None:
    """Without pickle and eval, a run's folder from a stranger can be opened."""
    for name, tree in TREES.items():
        loaded = {m.partition(".")[0] for m in imports(name, everywhere=True)}
        assert not loaded & {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}, name
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in (
                    "eval",
                    "exec",
                    "compile",
                    "torch.load",
                    "yaml.load",
                    "yaml.unsafe_load",
                ), name
                assert not any(keyword.arg == "allow_pickle" for keyword in node.keywords), name


# -- size ---

LONGEST_FILE = 400
LONGEST_FUNCTION = 50
BUDGETS = {
    ("rnn",): 2900,
    ("model", "translation", "training"): 5250,
    ("data",): 4120,
    ("report",): 4330,
}
"""The most lines of Python that rooms may have together; kernels are not counted.

docs/architecture.md says what each room's lines are for.
"""
KERNELS = ("rnn/cpu/", "rnn/gpu/")
PYTHON = [*FILES, *sorted((ROOT / "scripts").glob("*.py")), ROOT / "train.py"]
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def lines_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def is_kernel(path: Path) -> bool:
    return any(place in path.as_posix() for place in KERNELS)


def test_no_two_test_modules_have_one_name() -> None:
    """pytest imports modules of one name once, and fails at the second."""
    names = [path.name for path in TESTS if path.name != "__init__.py"]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("path", [*PYTHON, *TESTS], ids=str)
def test_no_file_is_too_long(path: Path) -> None:
    assert len(lines_of(path)) < LONGEST_FILE


def test_the_architecture_page_has_the_budgets() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+`) \| ([\d,]+) \| [\d,]+ \|", text, re.M)
    found = {tuple(re.findall(r"\w+", rooms)): int(n.replace(",", "")) for rooms, n in rows}
    assert found == BUDGETS


@pytest.mark.parametrize("rooms", BUDGETS, ids="+".join)
def test_a_room_stays_in_its_budget(rooms: tuple[str, ...]) -> None:
    found = [p for name, p in MODULES.items() if room(name) in rooms and not is_kernel(p)]
    assert sum(len(lines_of(path)) for path in found) < BUDGETS[rooms]


@pytest.mark.parametrize("path", sorted((ROOT / "scripts").glob("*.py")), ids=str)
def test_a_script_only_starts_a_command_of_the_package(path: Path) -> None:
    """An installed package then has all of it."""
    assert len(lines_of(path)) == 6


def functions(path: Path) -> list[ast.FunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize("path", PYTHON, ids=str)
def test_a_function_fits_a_screen(path: Path) -> None:
    for node in functions(path):
        assert node.end_lineno is not None
        assert node.end_lineno - node.lineno + 1 < LONGEST_FUNCTION, node.name


def test_no_function_takes_kwargs() -> None:
    found = {
        (path.name, node.name) for path in PYTHON for node in functions(path) if node.args.kwarg
    }
    assert not found


# -- names ---


def test_a_number_of_few_has_one_meaning() -> None:
    """FEW_LINES was 20 in one module and 100 in another."""
    places = [
        (target.id, name)
        for name, tree in TREES.items()
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and re.match(r"(FEW|LEAST)_", target.id)
    ]
    found = [name for name, _ in places]
    assert {"FEW_LINES", "LEAST_CELLS"} <= set(found)
    assert sorted(found) == sorted(set(found)), places


@pytest.mark.parametrize("name", ["Origin", "LARGEST", "key_of", "search_of"])
def test_a_name_that_had_several_meanings_has_one(name: str) -> None:
    """Origin was where text comes from, and also the run that weights come from."""
    places = [
        module
        for module, tree in TREES.items()
        for node in tree.body
        for found in (node.targets if isinstance(node, ast.Assign) else [node])
        if name in (getattr(found, "name", None), getattr(found, "id", None))
    ]
    assert len(places) == 1, places


# -- options ---


def dataclasses(kind: Any, found: dict[str, type] | None = None) -> dict[str, type]:
    """Return a dataclass and those of its fields, by name."""
    found = {} if found is None else found
    if isinstance(kind, type) and is_dataclass(kind):
        found[kind.__name__] = kind
        for hint in get_type_hints(kind).values():
            for part in (hint, *get_args(hint)):
                dataclasses(part, found)
    return found


def test_no_option_is_dead() -> None:
    """Each option is read as an attribute, or is the default of another: ${data.vocab_size}."""
    read = {
        node.attr
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    referred = set(
        re.findall(
            r"\$\{\w+\.(\w+)", "".join(p.read_text() for p in (ROOT / "configs").rglob("*.yaml"))
        )
    )
    classes = dataclasses(config.Config)
    assert {"Config", "NormConfig", "SplitRule", "GrammarSplit", "CleaningConfig"} <= classes.keys()
    dead = [
        f"{name}.{f.name}"
        for name, kind in classes.items()
        for f in fields(kind)
        if f.name not in read | referred
    ]
    assert not dead
