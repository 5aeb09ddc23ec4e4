"""Values, JSON, YAML and arrays that a stranger may write, each well-formed in its own way."""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

DEEP = "[" * 3000 + "]" * 3000
VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 7, 2**31, 2**63, 10**12, 10**40, -(10**40)),
    *(0.5, -0.5, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf")),
    *("", "x", "x" * 5000, "../../../etc/passwd", "/dev/zero", "${oc.env:HOME}", "\0", "\ud800"),
    *("\x1b[31m", "1", "none", "<script>", "en", "\u202e", "%s{0}", "_target_"),
    *([], {}, [[]], [None], {"": None}, {"_target_": "os.system", "_args_": ["false"]}),
    [0] * 1000,
)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values inside a value, itself included."""
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    return [path, *(p for key, inner in items for p in leaves(inner, (*path, key)))]


def changed(value: Any, chance: random.Random) -> Any:
    """Return a copy of plain data with one place in it changed."""
    found = json.loads(json.dumps(value))
    *outer, last = chance.choice([p for p in leaves(found) if p] or [("",)])
    place = found
    for key in outer:
        place = place[key]
    how = chance.randrange(6)
    if not place:
        return chance.choice(VALUES)
    if how == 0 and len(place) > 1:
        del place[last]
    elif how == 1 and isinstance(place, dict):
        place[chance.choice(("_target_", "!!", "", "x" * 300, "shape"))] = chance.choice(VALUES)
    elif how == 2:
        other = chance.choice([p for p in leaves(found) if p])
        wanted = found
        for key in other:
            wanted = wanted[key]
        place[last] = json.loads(json.dumps(wanted))
    elif how == 3 and type(place[last]) in (int, float):
        place[last] = place[last] * chance.choice((-1, 0, 0.5, 2, 10, 1e6))
    else:
        place[last] = chance.choice(VALUES)
    return chance.choice(VALUES) if chance.random() < 0.05 else found


def as_json(value: Any, chance: random.Random) -> str:
    """Return a value as JSON, sometimes in a form that few writers use."""
    text = json.dumps(value, ensure_ascii=chance.random() < 0.5)
    how = chance.randrange(12)
    if how == 0:
        text = re.sub(r"-?\d+(\.\d+)?", lambda n: chance.choice((n[0], "1e999", "9" * 5000)), text)
    elif how == 1:
        text = text.replace(": ", f": {DEEP}, ", 1) if ": " in text else DEEP
    elif how == 2:
        text = "\ufeff" + text
    elif how == 3 and text.startswith("{"):
        text = text[:-1] + "," + text[1:]  # every key twice
    return text


def json_file(path: Path, chance: random.Random) -> None:
    """Change a value of a JSON file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    text = as_json(changed(content, chance), chance)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))


def json_lines(path: Path, chance: random.Random) -> None:
    """Change a line, or the lines, of a file of JSON lines."""
    lines = path.read_text(encoding="utf-8").splitlines()
    i = chance.randrange(len(lines))
    how = chance.randrange(5)
    if how == 0:
        lines.insert(i, chance.choice(("", "[]", "1", "null", DEEP, "{}", "x" * 200)))
    elif how == 1:
        lines = lines * 2
    elif how == 2:
        lines.reverse()
    else:
        lines[i] = as_json(changed(json.loads(lines[i]), chance), chance)
    path.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass"))


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
YAMLS = (
    "!!python/object/apply:os.system ['touch pwned']",
    "!!python/name:os.system",
    "!!python/object/new:os.system [touch pwned]",
    "{_target_: os.system, _args_: [touch pwned]}",
    "!!binary aGVsbG8=",
    "!!timestamp 2001-01-01",
    "!!set {a, b}",
    "&a [*a]",
    DEEP,
    "{" * 3000 + "}" * 3000,
    "2001-01-01",
    "0o17",
    "1_000",
    "12:30:45",
    ".inf",
    ".nan",
    "*unknown",
    "'${oc.env:HOME}'",
    "? [1, 2]\n: 3",
)
"""Texts in the place of a value."""


def yaml_file(path: Path, chance: random.Random) -> None:
    """Change a setting of a YAML file, or its form."""
    text = path.read_text(encoding="utf-8")
    how = chance.randrange(8)
    if how == 0:
        lines = text.splitlines()
        i = chance.randrange(len(lines))
        key, colon, _ = lines[i].partition(":")
        lines[i] = f"{key}{colon or ''} {chance.choice(YAMLS)}"
        text = "\n".join(lines) + "\n"
    elif how == 1:
        last = chance.choice(("*a2", "*a11"))
        text = BOMB + chance.choice(
            (text, re.sub(r"(?m)^(\w+): .*$", rf"\1: {last}", text, count=1))
        )
        if chance.random() < 0.5:
            lines = text.splitlines()
            at = [i for i, line in enumerate(lines) if re.match(r" *[a-z_]+: \S", line)]
            i = chance.choice(at)
            lines[i] = f"{lines[i].partition(':')[0]}: {last}"
            bomb, rest = BOMB.rstrip("\n"), "\n".join(lines[len(BOMB.splitlines()) :])
            text = f"trainer_:\n  {bomb.replace(chr(10), chr(10) + '  ')}\n{rest}\n"
    elif how == 2:
        text = chance.choice(YAMLS) + "\n"
    elif how == 3:
        text = text + "---\n" + text
    else:
        content = changed(yaml.safe_load(text), chance)
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=chance.random() < 0.5)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))


def npz_file(path: Path, chance: random.Random) -> None:
    """Change an array of a shortlist."""
    with np.load(path) as file:
        arrays = dict(file)
    name = chance.choice(sorted(arrays))
    array = arrays[name]
    changes: list[Callable[[], Any]] = [
        lambda: array.astype(chance.choice(("f8", "i1", "u8", "S3", "c16"))),
        lambda: array.reshape(-1),
        lambda: array[..., None],
        lambda: array[:0] if array.ndim else array,
        lambda: array * 0 + chance.choice((-2, -1, 10**6, 2**31 - 1)),
        lambda: np.array([{"a": 1}], object),
        lambda: np.array("text"),
        lambda: np.zeros((0, 0), np.int32),
        lambda: np.full(array.shape, np.nan),
    ]
    arrays[name] = chance.choice(changes)()
    if chance.random() < 0.2:
        del arrays[chance.choice(sorted(arrays))]
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)
    if chance.random() < 0.1:
        huge_array(path)


def huge_array(path: Path) -> None:
    """Write an archive of one array that says it has 10 ** 15 numbers."""
    import zipfile

    header = b"{'descr': '<i4', 'fortran_order': False, 'shape': (1000000000, 1000000), }"
    header += b" " * (117 - len(header)) + b"\n"
    body = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("candidates", "always", "copies"):
            file.writestr(f"{name}.npy", body)
