"""The folder of an exported translator: what a program without this package needs to translate."""

import json
import shutil
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .. import __version__
from ..config import DecodeConfig, length_limit
from ..data.tokenizer import Tokenizers
from ..model import Translator
from ..runs.folder import Run
from .networks import OPSET, write_networks
from .tables import text_tables

PROGRAMS = {"example.py": "translate.py", "text.py": "text.py"}
"""Modules of this package -> what they are called in the folder."""


def write_folder(
    folder: Path, run: Run, model: Translator, tokenizers: Tokenizers, decode: DecodeConfig
) -> None:
    """Write everything but the networks in 8 bits into an empty folder.

    ValueError for what cannot be exported, RuntimeError where torch cannot export the model.
    """
    names = ["tokenizer.model"] * 2
    if not tokenizers.joint:
        names = ["tokenizer.source.model", "tokenizer.target.model"]
    _write_json(folder / "text.json", text_tables(tokenizers, names))
    for name, side in zip(names, (tokenizers.source, tokenizers.target), strict=True):
        side.save(folder / name)
    _write_json(folder / "settings.json", settings(run, model, tokenizers, decode))
    package = resources.files(__package__)
    for source, name in PROGRAMS.items():
        text = (package / source).read_text(encoding="utf-8")
        (folder / name).write_text(text.replace("from .text", "from text"), encoding="utf-8")
    with resources.as_file(package / "readme.md") as readme:
        shutil.copyfile(readme, folder / "README.md")
    write_networks(model, folder)


def settings(
    run: Run, model: Translator, tokenizers: Tokenizers, decode: DecodeConfig
) -> dict[str, Any]:
    """Return settings.json: the search, the special ids, and where the networks come from."""
    config, origin = run.config(), run.as_origin()
    return {
        "source_language": tokenizers.source.language,
        "target_language": tokenizers.target.language,
        "pad_id": model.vocabulary.pad_id,
        "unk_id": tokenizers.target.unk_id,
        "bos_id": model.vocabulary.bos_id,
        "eos_id": model.vocabulary.eos_id,
        "beam_size": decode.beam_size,
        "length_penalty": decode.length_penalty,
        "max_length": length_limit(decode.max_length),
        "cell": config.cell.kind.value,
        "norm": config.norm.kind.value,
        "attention": config.model.attention.value,
        "run": {"folder": run.folder.resolve().name, "checkpoint_sha256": origin.sha256},
        "versions": {
            "seq2seq": __version__,
            **{name: version(name) for name in ("torch", "onnx", "sentencepiece")},
            "opset": OPSET,
        },
    }


def _write_json(path: Path, content: Any) -> None:
    lines = [f"  {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in content.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
