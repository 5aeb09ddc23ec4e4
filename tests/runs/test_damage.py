"""Checkpoints that are not what was written: flipped bits, cuts, and files of other programs."""

import json
import logging
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from seq2seq.runs import checkpoint
from seq2seq.runs.checkpoint import CheckpointError, load_checkpoint, read_state, save_checkpoint

TENSORS = {"model.w": torch.linspace(-1, 1, 60).view(5, 12), "model.n": torch.tensor(3)}
STATE = {"progress": {"update": 7, "best": 1.5}, "name": "中文"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a small checkpoint."""
    save_checkpoint(tmp_path / "best.safetensors", TENSORS, STATE)
    return tmp_path / "best.safetensors"


@pytest.fixture(autouse=True)
def forget_remarks() -> None:
    checkpoint._remark_on.cache_clear()


def refused(file: Path, content: bytes) -> str:
    """Write a file; check that both ways to read it name it; return the message."""
    file.write_bytes(content)
    for load in (load_checkpoint, read_state):
        with pytest.raises(CheckpointError, match=r"best\.safetensors: damaged or truncated") as e:
            load(file)
    return str(e.value)


def test_every_flipped_bit_is_found(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = file.read_bytes()
    for i in range(len(whole)):
        bit = 1 << random.Random(i).randrange(8)
        refused(file, whole[:i] + bytes([whole[i] ^ bit]) + whole[i + 1 :])
    start = whole.index(b"sealed_state") - 2
    for i in range(start, start + 90):  # the checksum's own name and digits: every bit
        for bit in range(8):
            refused(file, whole[:i] + bytes([whole[i] ^ 1 << bit]) + whole[i + 1 :])
    assert caplog.records == [], "none of them is taken for a file of an older version"


def test_every_cut_and_any_growth_is_found(file: Path) -> None:
    whole = file.read_bytes()
    for length in range(len(whole)):
        refused(file, whole[:length])
    refused(file, whole + b"\0")


def with_header(header: str | bytes, length: int | None = None) -> bytes:
    text = header.encode() if isinstance(header, str) else header
    return (len(text) if length is None else length).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 8,
        b"PK\x03\x04" + b"\0" * 200,
        with_header("{}", 2**63),
        with_header("{}", 2**64 - 1),
        with_header('{"__metadata__":{"state":"' + "[" * 100_000 + '"}}'),
        with_header('{"__metadata__":{"state":"[1]"}}'),
        with_header('{"__metadata__":{"state":"{\\"progress\\""}}'),
        with_header('{"__metadata__":{"other":"{}"}}'),
        with_header('{"w":{"dtype":"F32","shape":[9999999999,9999999999],"data_offsets":[0,4]}}'),
        with_header(
            '{"__metadata__":{"state":"{}"},'
            '"w":{"dtype":"F32","shape":[2],"data_offsets":[0,99999999]}}'
        ),
        with_header(
            '{"__metadata__":{"state":"{}"},"w":{"dtype":"F99","shape":[0],"data_offsets":[0,0]}}'
        ),
        with_header(b'{"__metadata__":{"state":"\xff"}}'),
        with_header('{"a":' * 5000),
    ],
    ids=lambda content: f"{content[8:40]!r}",
)
def test_foreign_and_hostile_files_are_refused(content: bytes, file: Path) -> None:
    refused(file, content)


def test_a_file_of_another_program_is_refused(file: Path) -> None:
    save_file(TENSORS, file)
    assert "no checksum, as a file of another program" in refused(file, file.read_bytes())


def test_a_name_that_leads_elsewhere_is_only_a_name(file: Path) -> None:
    before = sorted(file.parent.parent.rglob("*"))
    save_checkpoint(file, {"../../x": torch.ones(1), "/etc/x": torch.ones(1)}, {})
    assert load_checkpoint(file)[0].keys() == {"../../x", "/etc/x"}
    assert sorted(file.parent.parent.rglob("*")) == before


def test_tensors_that_are_swapped_are_found(file: Path) -> None:
    """The checksum covers the header, too: other shapes and names of the same bytes."""
    whole = file.read_bytes()
    swapped = whole.replace(b"[5,12]", b"[12,5]")
    assert swapped != whole
    assert "SHA-256 is" in refused(file, swapped)


def test_the_checksum_is_that_of_the_file_with_zeros_in_its_place(file: Path) -> None:
    """Computed here without the code of the package."""
    import hashlib

    whole = file.read_bytes()
    place = whole.index(b'"sealed_state":"') + 16
    blank = whole[:place] + b"0" * 64 + whole[place + 64 :]
    assert whole[place : place + 64].decode() == hashlib.sha256(blank).hexdigest()
    assert load_file(file).keys() == TENSORS.keys()


# -- what is damaged can be replaced ---


def test_another_file_that_is_whole_is_named(file: Path) -> None:
    for name, update in (("last", 40), ("previous", 20)):
        state = {"progress": {"update": update}}
        save_checkpoint(file.with_name(f"{name}.safetensors"), TENSORS, state)
    cut, last = file.read_bytes()[:-1], file.with_name("last.safetensors")
    assert "or use last.safetensors in its place (whole, update 40)" in refused(file, cut)
    last.write_bytes(last.read_bytes()[:-1])
    assert "or use previous.safetensors in its place (whole, update 20)" in refused(file, cut)


def test_without_another_file_none_is_named(file: Path) -> None:
    assert refused(file, b"").endswith(
        "; copy the run again, or train it again with overwrite=true"
    )


# -- older versions ---


def older(file: Path, tensors: dict[str, Tensor], state: Mapping[str, object]) -> None:
    save_file(tensors, file, metadata={"state": json.dumps(state)})


def test_a_file_without_a_checksum_loads_and_that_is_said_once(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older(file, TENSORS, STATE)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            tensors, state = load_checkpoint(file)
            assert read_state(file) == state == STATE
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    [record] = caplog.records
    assert "checkpoints without a checksum" in record.getMessage()
    assert str(file.parent) in record.getMessage()
    refused(file, file.read_bytes()[:-1])


# -- writing ---


def test_a_file_that_is_not_read_back_as_written_replaces_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk turns a bit over, after it was told to keep the file."""
    before = file.read_bytes()
    flush: Callable[[int], None] = os.fsync

    def unreliable(number: int) -> None:
        flush(number)
        os.pwrite(number, b"\x55", os.fstat(number).st_size - 3)

    monkeypatch.setattr(os, "fsync", unreliable)
    kept = file.with_name("previous.safetensors")
    with pytest.raises(OSError, match="read back damaged") as error:
        save_checkpoint(file, TENSORS, {}, kept)
    assert error.value.filename == str(file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("links", [True, False])
def test_the_older_file_is_kept(links: bool, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    kept = file.with_name("previous.safetensors")
    for update in (8, 9, 10):
        save_checkpoint(file, TENSORS, {"update": update}, kept)
        earlier = update - 1 if update > 8 else None
        assert read_state(file)["update"] == update
        assert read_state(kept).get("update") == earlier
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name, kept.name]


def test_the_same_content_gives_the_same_bytes(file: Path) -> None:
    """So that two runs can be compared file by file."""
    before = file.read_bytes()
    save_checkpoint(file, dict(TENSORS), dict(STATE))
    assert file.read_bytes() == before


def test_a_large_file_is_checked_in_parts(file: Path) -> None:
    tensors = {"w": torch.from_numpy(np.random.default_rng(0).normal(size=400_000))}
    save_checkpoint(file, tensors, {})
    assert torch.equal(load_checkpoint(file)[0]["w"], tensors["w"])
    content = bytearray(file.read_bytes())
    for place in (len(content) // 2, len(content) - 1):
        content[place] ^= 1
        refused(file, bytes(content))
        content[place] ^= 1
