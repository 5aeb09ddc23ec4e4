"""Corpora of small files."""

import hashlib
from pathlib import Path

from hydra import compose, initialize_config_dir

from seq2seq.app import composition
from seq2seq.config import DataConfig, SplitConfig

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def config_of(name: str, *overrides: str) -> DataConfig:
    """Compose a configuration of configs/data."""
    composition.register()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return composition.composed(compose("train", overrides=[f"data={name}", *overrides])).data


def sha256(text: str) -> str:
    """Return the checksum of a text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def write(path: Path, data: str | bytes) -> Path:
    """Write a file, and the folders that it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
    return path


def own(tmp_path: Path, **files: str) -> DataConfig:
    """Write a corpus of files: train="a\nb\n|x\ny\n" writes both sides of train."""
    config = DataConfig(name="mine", root=str(tmp_path / "prepared"))
    for split, text in files.items():
        sides = [
            str(write(tmp_path / f"{split}.{i}", side)) for i, side in enumerate(text.split("|"))
        ]
        setattr(config, split, SplitConfig(*sides))
    return config
