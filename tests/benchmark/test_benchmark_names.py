"""The names of the benchmark: no two modules give one name to different things."""

import ast
from collections import defaultdict
from pathlib import Path

import seq2seq.benchmark

FOLDER = Path(seq2seq.benchmark.__file__).parent


def defined(path: Path) -> set[str]:
    """Return the names that a module defines at its top."""
    found = set[str]()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def test_each_thing_has_a_name_of_its_own() -> None:
    places = defaultdict(list)
    for path in FOLDER.glob("*.py"):
        for name in defined(path) - {"main"}:
            places[name].append(path.name)
    assert {"Task", "PEERS", "Layers"} <= places.keys()
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
