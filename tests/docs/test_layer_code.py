"""The Python that the README and the page about the layers show runs as it is written."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from seq2seq.rnn import LSTM

ROOT = Path(__file__).parents[2]
CODE = [
    (page, code)
    for page in ("README.md", "docs/layer.md")
    for code in re.findall(
        r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S
    )
]


@pytest.mark.parametrize(("page", "code"), CODE, ids=[f"{p}-{i}" for i, (p, _) in enumerate(CODE)])
def test_it_runs(page: str, code: str) -> None:
    known: dict[str, Any] = {
        "torch": torch,
        "LSTM": LSTM,
        "x": torch.randn(3, 5, 256),
        "model": LSTM(4, 6, norm="batch"),
        "batches": [torch.randn(5, 3, 4)],
    }
    exec(compile(code, page, "exec"), known)


def test_both_pages_have_code() -> None:
    assert {page for page, _ in CODE} == {"README.md", "docs/layer.md"}
