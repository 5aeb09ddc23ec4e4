"""Damage with a right checksum, as somebody can write it who knows the format."""

import hashlib
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuzz import blind, hostile
from torch import Tensor

from seq2seq.runs.checkpoint import load_checkpoint, save_checkpoint
from seq2seq.runs.seal import DIGITS, NO_DIGEST, SEALED, SealError, seal
from seq2seq.stored import CHECKSUM, CHECKSUMS, write_checked_json

NAMES = ("../../../tmp/x", "/etc/passwd", "", "\0", "model", "x" * 5000, "model.__class__", "..")


def tensors_changed(path: Path, chance: random.Random) -> None:
    """Change one tensor of a checkpoint: its shape, type, values or name."""
    tensors, state = load_checkpoint(path)
    name = chance.choice(sorted(tensors))
    tensor = tensors[name]
    changes: list[Callable[[], Tensor]] = [
        lambda: tensor.reshape(-1),
        lambda: tensor[None],
        lambda: tensor.flatten()[:0],
        lambda: tensor.flatten()[0] if tensor.numel() else tensor[None],
        lambda: torch.cat([tensor.reshape(-1)] * 3),
        lambda: tensor.mT.contiguous() if tensor.ndim > 1 else tensor.repeat(2),
        lambda: torch.full_like(tensor.double(), float("nan")),
        lambda: torch.full_like(tensor.float(), float("inf")),
        lambda: torch.full_like(tensor, 100),
        lambda: tensor.to(chance.choice((torch.float64, torch.float16, torch.bfloat16))),
        lambda: tensor.to(chance.choice((torch.int64, torch.bool, torch.uint8))),
    ]
    how = chance.randrange(len(changes) + 3)
    if how < len(changes):
        tensors[name] = changes[how]()
    elif how == len(changes):
        del tensors[name]
    elif how == len(changes) + 1:
        tensors[chance.choice(NAMES)] = torch.ones(3)
    else:
        tensors[chance.choice(NAMES)] = tensors.pop(name)
    save_checkpoint(path, tensors, state)


def state_changed(path: Path, chance: random.Random) -> None:
    """Change a value of a checkpoint's state."""
    tensors, state = load_checkpoint(path)
    found = hostile.changed(state, chance)
    save_checkpoint(path, tensors, found)


def header_changed(path: Path, chance: random.Random) -> None:
    """Change the header of a checkpoint as text: offsets, shapes, types, its own length."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, body = content[8 : 8 + length].decode(), content[8 + length :]
    header = re.sub(rf'("{SEALED}":")[0-9a-f]{{{DIGITS}}}', rf"\g<1>{NO_DIGEST}", header)
    numbers = list(re.finditer(r"(?<=[\[,])\d+(?=[\],])", header))
    found = chance.choice(numbers)
    number = chance.choice(("-1", "0", "1e9", "99999999999", str(2**63), str(2**64), "2.5"))
    changes: list[Callable[[], str]] = [
        lambda: header[: found.start()] + number + header[found.end() :],
        lambda: header.replace('"F32"', chance.choice(('"F64"', '"I8"', '"F99"', "7")), 1),
        lambda: header[:-1].rstrip() + "," + header[1:],
        lambda: header.replace("[", hostile.DEEP + "[", 1),
        lambda: header.replace('"data_offsets"', chance.choice(('"offsets"', '"shape"')), 1),
        lambda: header.replace("model.", "../../", chance.choice((1, -1))),
        lambda: header.rstrip() + " " * chance.choice((1, 8, 100_000)),
        lambda: header.replace(f'"{SEALED}"', f'"x":"y","{SEALED}"', 1),
    ]
    text = chance.choice(changes)().encode()
    length = chance.choice((len(text), len(text), len(text), 0, 2**63, len(text) + len(body)))
    path.write_bytes(length.to_bytes(8, "little") + text + body)
    try:
        seal(path)
    except SealError:  # a length beyond the file: nobody can seal it
        return


CHECKPOINT = (tensors_changed, state_changed, header_changed)


# -- tokenizers and prepared corpora ---


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def rewrite_json(path: Path, change: Callable[[Any], Any]) -> None:
    """Change a JSON file with a checksum, and give it the right one; in checksums.json too."""
    values = json.loads(path.read_text(encoding="utf-8"))
    checksum = values.pop(CHECKSUM, None)
    changed = change(values)
    if checksum is None or not isinstance(changed, dict):
        path.write_text(json.dumps(changed), encoding="utf-8")
    else:
        write_checked_json(path, changed)
    reseal(path)


def reseal(path: Path) -> None:
    """Give checksums.json the right checksum of a file, where there is one."""
    others = path.with_name(CHECKSUMS)
    if others.is_file() and path.name != CHECKSUMS:
        values = json.loads(others.read_text(encoding="utf-8"))
        del values[CHECKSUM]
        content = path.read_bytes()
        write_checked_json(
            others, values | {path.name: {"bytes": len(content), "sha256": digest(content)}}
        )


def model_changed(path: Path, chance: random.Random) -> None:
    """Change the bytes of a tokenizer's model, and its checksum in tokenizer.json."""
    path.write_bytes(chance.choice(list(blind.CHANGES.values()))(path.read_bytes(), chance))
    found = digest(path.read_bytes())

    def change(settings: Any) -> Any:
        settings["sha256"][path.name] = found
        return settings

    rewrite_json(path.with_name("tokenizer.json"), change)
    reseal(path)


def values_changed(path: Path, chance: random.Random) -> None:
    """Change a value of tokenizer.json, manifest.json or checksums.json."""
    rewrite_json(path, lambda settings: hostile.changed(settings, chance))


def arrays_changed(path: Path, chance: random.Random) -> None:
    """Change the numbers of a prepared corpus, and its checksum in manifest.json."""
    content = path.read_bytes()
    how = chance.randrange(4)
    if how == 0:
        content = chance.choice(list(blind.CHANGES.values()))(content, chance)
    elif how == 1:
        content = b"\xff" * len(content)
    else:
        numbers = np.frombuffer(content, np.int64 if path.suffix == ".ends" else np.uint8).copy()
        value = chance.choice((0, 1, 60, 200, 255) if how == 2 else (-1, 10**15, 2**62, -(2**62)))
        if path.suffix == ".ids":
            value %= 256
        numbers[chance.randrange(len(numbers))] = value
        content = numbers.tobytes()
    path.write_bytes(content)
    reseal(path)
