"""Which file of a copy is damaged, and how: a seed decides both."""

import random
from dataclasses import dataclass, field
from pathlib import Path

from fuzz import blind, hostile, resealed
from fuzz.blind import Placement


@dataclass
class Mutant:
    """The damage of one copy."""

    seed: int
    files: list[str] = field(default_factory=list)
    """The files, relative to the copy's folder."""
    kinds: list[str] = field(default_factory=list)
    """What was done to each."""

    def __str__(self) -> str:
        done = ", ".join(
            f"{kind} of {file}" for file, kind in zip(self.files, self.kinds, strict=True)
        )
        return f"seed {self.seed}: {done}"


def knowing(file: Path) -> list[Placement]:
    """Return the ways to damage a file of this kind that keep its form or its checksum."""
    if file.suffix == ".safetensors":
        return list(resealed.CHECKPOINT)
    if file.suffix == ".model":
        return [resealed.model_changed]
    if file.name in ("tokenizer.json", "manifest.json", "checksums.json"):
        return [resealed.values_changed, hostile.json_file]
    if file.suffix in (".ids", ".ends"):
        return [resealed.arrays_changed]
    ways = {
        ".json": hostile.json_file,
        ".jsonl": hostile.json_lines,
        ".yaml": hostile.yaml_file,
        ".npz": hostile.npz_file,
    }
    return [ways[file.suffix]] if file.suffix in ways else []


def group(file: Path) -> str:
    """Return the kind of a file: each kind is damaged about as often."""
    if file.parts[0] == "corpus":
        return "prepared" if "prepared" in file.parts else "text"
    names = {".jsonl": "lines", ".safetensors": "checkpoint", ".txt": "text", ".vocab": "text"}
    return names.get(file.suffix, "tokenizer" if file.stem.startswith("tokenizer") else file.suffix)


WEIGHTS = {"text": 0.3}
"""How often a kind is damaged beside the others; 1 where it is not named."""


def damage(folder: Path, files: list[Path], seed: int) -> Mutant:
    """Damage one file of a copy, sometimes two."""
    chance, mutant = random.Random(seed), Mutant(seed)
    kinds: dict[str, list[Path]] = {}
    for file in files:
        kinds.setdefault(group(file), []).append(file)
    for _ in range(2 if chance.random() < 0.1 else 1):
        names = sorted(kinds)
        name = chance.choices(names, [WEIGHTS.get(n, 1.0) for n in names])[0]
        file = chance.choice(kinds[name])
        if str(file) not in mutant.files:
            mutant.files.append(str(file))
            mutant.kinds.append(apply(folder / file, chance))
    return mutant


def apply(path: Path, chance: random.Random) -> str:
    """Damage a file in one of all ways; return the name of the way."""
    ways, how = knowing(path), chance.random()
    if not path.is_file():
        return "nothing"
    if ways and how < 0.5:
        way = chance.choice(ways)
        try:
            way(path, chance)
            return way.__name__
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, OSError):
            pass  # a second damage of a file that can no longer be read
    if how < 0.85:
        name = chance.choice(sorted(blind.CHANGES))
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(blind.CHANGES[name](content, chance))
        return name
    name = chance.choice(sorted(blind.PLACEMENTS))
    blind.PLACEMENTS[name](path, chance)
    return name
