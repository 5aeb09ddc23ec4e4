"""Copies of layers: in memory, in files, on devices, for several processes."""

import copy
import io
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from idiom_cases import NORMS, OURS, ours, tensors_of, torchs
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from seq2seq.rnn import frozen

X = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(0))


def trained(cell: str, norm: str) -> Any:
    """Return a layer with statistics."""
    torch.manual_seed(0)
    layer = ours(cell, norm)(5, 4, 2, bidirectional=True)
    layer(X)
    return layer.eval()


def through_file(layer: nn.Module) -> Any:
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def through_state_dict(layer: Any) -> Any:
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other = copy.deepcopy(layer)
    other.reset_parameters()
    other.load_state_dict(torch.load(file, weights_only=True))
    return other


def replica(layer: Any) -> Any:
    """Return what nn.DataParallel makes of a layer on each device."""
    made = layer._replicate_for_data_parallel()
    for name, p in layer._parameters.items():
        setattr(made, name, p.detach().clone())
    for name, b in layer._buffers.items():
        made._buffers[name] = b.clone()
    for name, m in layer._modules.items():
        made._modules[name] = m._replicate_for_data_parallel()
    return made


COPIES: dict[str, Any] = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
    "torch.save": through_file,
    "state_dict": through_state_dict,
    "replica": replica,
    "to": lambda layer: copy.deepcopy(layer).double().float(),
    "share_memory": lambda layer: copy.deepcopy(layer).share_memory(),
}


@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", OURS)
def test_a_copy_computes_the_same(cell: str, norm: str, make: Any) -> None:
    layer = trained(cell, norm)
    with torch.no_grad(), frozen(layer):
        expected = layer(X)
        copied = make(layer)
        torch.testing.assert_close(copied(X), expected)
    with torch.no_grad():
        torch.testing.assert_close(copied(X), expected)
    if make is not replica:
        copied.train()(X)[0].sum().backward()


@pytest.mark.parametrize("norm", NORMS)
def test_a_gradient_goes_through_a_replica(norm: str) -> None:
    layer = trained("LSTM", norm).train()
    made = layer._replicate_for_data_parallel()
    for name, p in layer._parameters.items():
        setattr(made, name, p * 1)
    made(X)[0].square().sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


# -- several processes ---


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    place = f"file://{tmp_path / 'store'}"
    dist.init_process_group("gloo", init_method=place, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def full(t: Any) -> Tensor:
    found: Tensor = t.full_tensor() if isinstance(t, DTensor) else t
    return found


def run_of(layer: Any) -> list[Tensor]:
    """Return outputs and gradients, and outputs after a step of descent, in both modes."""
    optimizer, found = torch.optim.SGD(layer.parameters(), lr=0.1), list[Tensor]()
    for _ in range(2):
        layer.zero_grad()
        results = tensors_of(layer(X))
        results[0].square().sum().backward()
        found += [t.detach() for t in results]
        found += [full(p.grad) for p in layer.parameters()]
        optimizer.step()
    layer.eval()
    with torch.no_grad():
        found += tensors_of(layer(X))
        with frozen(layer):
            found += tensors_of(layer(X)) + tensors_of(layer(X))
    return found


@pytest.mark.usefixtures("process_group")
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", OURS)
def test_fully_sharded_layers_train_as_others(cell: str, norm: str) -> None:
    torch.manual_seed(0)
    layer = ours(cell, norm)(5, 4, 2, bidirectional=True)
    sharded = copy.deepcopy(layer)
    fully_shard(sharded, mesh=init_device_mesh("cpu", (1,)))
    assert isinstance(sharded.weight_hh_l0, DTensor)
    torch.testing.assert_close(run_of(sharded), run_of(layer))


@pytest.mark.usefixtures("process_group")
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("norm", NORMS)
def test_fully_sharded_layers_have_mixed_precision(norm: str) -> None:
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
    for make in (torchs("LSTM"), ours("LSTM", norm)):
        layer = make(5, 4)
        plain = copy.deepcopy(layer)
        fully_shard(layer, mesh=init_device_mesh("cpu", (1,)), mp_policy=policy)
        for mode in (True, False):
            found = layer.train(mode)(X)[0]
            assert found.dtype is torch.bfloat16
            expected = plain.train(mode)(X)[0]
            # bfloat16 has 8 bits, 0.4%; norms over few features enlarge that over six steps.
            torch.testing.assert_close(found.float(), expected, rtol=0.06, atol=0.06)


@pytest.mark.usefixtures("process_group")
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("norm", NORMS)
def test_data_parallel_layers_train_as_others(norm: str) -> None:
    torch.manual_seed(0)
    layer = ours("LSTM", norm)(5, 4, 2)
    parallel = DistributedDataParallel(copy.deepcopy(layer))
    torch.testing.assert_close(run_of(parallel), run_of(layer))
