"""What the tests share: the mirror folder of real corpora, where there is one."""

import os
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # the models are tiny, and two test processes share the cores

DEFAULT_MIRROR = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def mirror() -> Path:
    """The folder with copies of the published corpora; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("SEQ2SEQ_DATA_MIRROR") or DEFAULT_MIRROR)
    if not folder.is_dir():
        pytest.skip(f"no mirror folder of the published corpora at {folder} (set SEQ2SEQ_DATA_MIRROR)")
    return folder
