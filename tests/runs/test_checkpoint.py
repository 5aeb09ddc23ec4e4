import errno
import math
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from seq2seq.files import write_text
from seq2seq.runs.checkpoint import (
    CheckpointError,
    as_os_error,
    average_weights,
    group,
    is_finite,
    load_checkpoint,
    load_optimizer,
    load_weights,
    optimizer_tensors,
    prefixed,
    save_checkpoint,
)
from seq2seq.training.optimizer import state_kinds

Rule = Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]


def trained(rule: Rule) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = rule(model.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().sum().backward()
        optimizer.step()
    return model, optimizer


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38])
def test_one_number_that_is_not_finite_is_found(value: float) -> None:
    for place in (0, 40, 99):
        tensor = torch.randn(10, 10)
        tensor.view(-1)[place] = value
        assert is_finite(tensor) == math.isfinite(value)
    assert is_finite(torch.full((), value)) == math.isfinite(value)
    assert is_finite(torch.zeros(0, 3))
    assert is_finite(torch.tensor(7))


def test_a_checkpoint_is_loaded_as_it_was_saved(tmp_path: Path) -> None:
    path, shared = tmp_path / "deep" / "a.safetensors", torch.randn(3, 4)
    tensors = {
        "a": shared,
        "b": shared,
        "transposed": shared.T,
        "count": torch.tensor(3),
        "bytes": torch.get_rng_state(),
    }
    save_checkpoint(path, tensors, {"progress": {"update": 7, "name": "中文"}})
    loaded, state = load_checkpoint(path)
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[k], tensors[k]) for k in tensors)
    assert state == {"progress": {"update": 7, "name": "中文"}}
    assert [p.name for p in path.parent.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize(
    "rule",
    [
        lambda p: torch.optim.Adam(p, fused=True),
        torch.optim.AdamW,
        lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    ],
)
def test_an_optimizer_continues_exactly(rule: Rule, tmp_path: Path) -> None:
    model, optimizer = trained(rule)
    path = tmp_path / "a.safetensors"
    weights, moments = (
        prefixed(model.state_dict(), "model"),
        prefixed(optimizer_tensors(model, optimizer), "o"),
    )
    save_checkpoint(path, weights | moments, {})
    tensors, _ = load_checkpoint(path)
    other = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    load_weights(other, group(tensors, "model"), path)
    other_optimizer = rule(other.parameters())
    kinds, kept = state_kinds(optimizer), group(tensors, "o")
    load_optimizer(other, other_optimizer, kept, kinds)
    x = torch.randn(5, 3)
    for m, o in ((model, optimizer), (other, other_optimizer)):
        o.zero_grad()
        m(x).square().sum().backward()
        o.step()
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)
    )


@pytest.mark.parametrize(
    "rule", [torch.optim.Adam, lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)]
)
def test_an_incomplete_state_of_an_optimizer_is_refused(rule: Rule) -> None:
    model, optimizer = trained(rule)
    kinds, whole = state_kinds(optimizer), optimizer_tensors(model, optimizer)
    other = rule(model.parameters())
    load_optimizer(model, other, {}, kinds)
    assert not other.state
    for parts in ("0.weight", *(f".{kind}" for kind in kinds)):
        kept = {name: value for name, value in whole.items() if parts not in name}
        if kept:
            with pytest.raises(ValueError, match=f"weight: expected {kinds[0]}"):
                load_optimizer(model, other, kept, kinds)
    with pytest.raises(ValueError, match="weight: expected"):
        load_optimizer(model, other, {"0.weight.other": whole[f"0.weight.{kinds[-1]}"]}, kinds)
    load_optimizer(model, other, whole, kinds)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(path)
    save_checkpoint(path, {"a": torch.randn(100)}, {})
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:4], b"", b"\xff" * 64, pickle.dumps({"a": 1})):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"a\.safetensors: damaged or truncated"):
            load_checkpoint(path)


def test_another_architecture_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"another architecture: bias is missing, and 1 more;"
    ):
        load_weights(nn.Linear(3, 2), {"weight": torch.zeros(2, 2)}, tmp_path)
    with pytest.raises(CheckpointError, match="extra is not in the model"):
        load_weights(
            nn.Linear(1, 1), {**nn.Linear(1, 1).state_dict(), "extra": torch.zeros(1)}, tmp_path
        )


def test_a_full_disk_leaves_the_older_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, {"a": torch.tensor(1.0)}, {"n": 1})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, {"a": torch.tensor(2.0)}, {"n": 2})
    monkeypatch.undo()
    assert load_checkpoint(path)[1] == {"n": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("I/O error: No space left on device (os error 28)", errno.ENOSPC),
        ('IoError(Os { code: 28, kind: StorageFull, message: "No space left" })', errno.ENOSPC),
        ('IoError(Os { code: 27, kind: FileTooLarge, message: "error 28" })', errno.EFBIG),
        ('IoError(Error { kind: WriteZero, message: "failed to write" })', errno.EIO),
    ],
)
def test_every_safetensors_names_the_error_of_the_system(text: str, number: int) -> None:
    error = as_os_error(SafetensorError(f"Error while serializing: {text}"))
    assert (error.errno, error.strerror) == (number, os.strerror(number))


def test_checkpoints_are_averaged(tmp_path: Path) -> None:
    paths = []
    for i, value in enumerate((1.0, 2.0, 6.0)):
        paths.append(tmp_path / f"{i}.safetensors")
        tensors = {
            "model.w": torch.tensor([value]),
            "model.count": torch.tensor(i),
            "o.w": torch.ones(1),
        }
        save_checkpoint(paths[-1], tensors, {})
    averaged = average_weights(paths)
    assert averaged == {"w": torch.tensor([3.0]), "count": torch.tensor(2)}


def test_a_text_file_is_written_completely_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "one\n")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "two\udcff")
    assert path.read_text() == "one\n"
    assert len(list(tmp_path.iterdir())) == 1


def test_large_weights_do_not_hide_small_ones_in_an_average(tmp_path: Path) -> None:
    """Sums are of float64: of float32, 1e8 + 1 is 1e8."""
    paths = []
    for number, value in enumerate((1e8, 1.0, -1e8)):
        paths.append(tmp_path / f"{number}.safetensors")
        save_checkpoint(paths[-1], {"model.w": torch.tensor([value])}, {})
    assert average_weights(paths)["w"].tolist() == pytest.approx([1 / 3])


def test_weights_of_another_type_are_not_those_of_a_model() -> None:
    model = nn.Linear(2, 2)
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"a: weight: expected finite numbers of float32"):
        load_weights(model, weights, Path("a"))
