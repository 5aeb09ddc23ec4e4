"""Tools for the batch norm of torch.nn, on layers with batch norm in the cell."""

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from idiom_cases import OURS, ours
from oracles import config
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from seq2seq.rnn import LSTM, recalibrating

BATCHES = list(torch.randn(4, 6, 8, 5, generator=torch.Generator().manual_seed(0)))
"""Four batches of 6 steps and 8 rows, 5 features."""
STATISTICS = ["per_step", "sequence_input", "shared"]


def trained(cell: str = "LSTM", statistics: str = "per_step", **options: Any) -> Any:
    """Return a layer whose statistics are those of other data."""
    torch.manual_seed(0)
    norm: Any = config("batch", statistics=statistics, max_steps=10)
    layer = OURS[cell](5, 4, norm=norm, **options)
    for batch in BATCHES:
        layer(3 * batch + 1)
    return layer


def buffers_of(layer: nn.Module) -> dict[str, Tensor]:
    return {name: b.clone() for name, b in layer.named_buffers() if "num_updates" not in name}


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("statistics", STATISTICS)
@pytest.mark.parametrize("cell", OURS)
def test_update_bn_gives_the_statistics_of_the_data(
    cell: str, statistics: str, backend: str
) -> None:
    layer = trained(cell, statistics, num_layers=2, bidirectional=True, backend=backend)
    expected = copy.deepcopy(layer).eval()
    with recalibrating(expected), torch.no_grad():
        for batch in BATCHES:
            expected(batch)
    model = nn.Sequential(layer).eval()
    update_bn(BATCHES, model)
    assert not layer.training
    assert layer.norm.momentum == 0.1
    assert not layer.pools
    torch.testing.assert_close(buffers_of(layer), buffers_of(expected))
    layer.train()(BATCHES[0])  # and afterwards they are averaged as before
    assert not torch.equal(
        layer.get_buffer("running_mean_ih_l0"), expected.get_buffer("running_mean_ih_l0")
    )


def test_update_bn_gives_the_mean_over_batches_as_in_torch() -> None:
    """The input term of the first layer is a linear layer and torch's batch norm."""
    layer = trained(statistics="sequence_input")
    plain = nn.Sequential(nn.Linear(5, 16, bias=False), nn.BatchNorm1d(16))
    with torch.no_grad():
        plain[0].get_parameter("weight").copy_(layer.weight_ih_l0)
    update_bn(BATCHES, layer)
    update_bn([batch.flatten(0, 1) for batch in BATCHES], plain)
    for kind in ("mean", "var"):
        found = layer.get_buffer(f"running_{kind}_ih_l0")[0]
        torch.testing.assert_close(found, plain[1].get_buffer(f"running_{kind}"))


def test_an_averaged_model_gets_its_own_statistics() -> None:
    layer = trained()
    average: Any = AveragedModel(layer, use_buffers=False)
    average.update_parameters(layer)
    before = buffers_of(layer)
    update_bn(BATCHES, average)
    torch.testing.assert_close(buffers_of(layer), before)
    assert average.module.running_statistics.layer is average.module
    with pytest.raises(AssertionError):
        torch.testing.assert_close(buffers_of(average.module), before)


def test_frozen_batch_norm_normalises_by_the_running_statistics_in_training() -> None:
    layer = trained()
    with torch.no_grad():
        expected = copy.deepcopy(layer).eval()(BATCHES[0])
    before = buffers_of(layer)
    layer.train()
    for module in layer.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
    found = layer(BATCHES[0])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(buffers_of(layer), before)
    found[0].sum().backward()
    assert layer.gain_hh_l0.grad.any()
    layer.train()
    layer(BATCHES[0])
    assert not torch.equal(layer.get_buffer("running_mean_ih_l0"), before["running_mean_ih_l0"])


def test_momentum_is_set_for_this_layer_alone() -> None:
    first = trained()
    second = LSTM(5, 4, norm=first.norm)
    for module in first.modules():
        if isinstance(module, _BatchNorm):
            assert module.momentum == 0.1
            module.momentum = 1.0
    assert (first.norm.momentum, second.norm.momentum) == (1.0, 0.1)
    with pytest.raises(ValueError, match=r"norm\.momentum=3: expected a weight from 0 to 1"):
        first.running_statistics.momentum = 3


def test_statistics_are_reset_and_parameters_are_not() -> None:
    layer, fresh = trained(), LSTM(5, 4, norm=config("batch", max_steps=10))
    with torch.no_grad():
        layer.gain_hh_l0.fill_(2)
    for module in layer.modules():
        if isinstance(module, _BatchNorm):
            module.reset_running_stats()
    for name, b in fresh.named_buffers():
        assert torch.equal(layer.get_buffer(name), b), name
    assert torch.equal(layer.gain_hh_l0, torch.full((16,), 2.0))


def test_the_module_that_tools_find_is_of_their_base_class() -> None:
    layer = trained()
    found = [name for name, m in layer.named_modules() if isinstance(m, _BatchNorm)]
    assert found == ["running_statistics"]
    assert not any(isinstance(m, nn.BatchNorm1d) for m in layer.modules())
    assert not list(layer.running_statistics.state_dict())


def test_conversion_to_synchronised_batch_norm_is_refused() -> None:
    model = nn.Sequential(nn.Linear(5, 5), trained())
    with pytest.raises(AttributeError, match="batch norm inside a recurrent cell cannot be conv"):
        nn.SyncBatchNorm.convert_sync_batchnorm(model)


def test_copies_pass_on_to_the_copy() -> None:
    layer = trained()
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        copied.running_statistics.reset_running_stats()
        assert not copied.steps_seen_l0
        assert layer.steps_seen_l0 == 6


@pytest.mark.parametrize("norm", ["none", "layer", "rms"])
def test_other_norms_have_no_statistics(norm: str) -> None:
    layer = ours("LSTM", norm)(5, 4)
    before = {name: p.clone() for name, p in layer.named_parameters()}
    update_bn(BATCHES, layer)
    assert [type(m) for m in layer.modules()] == [LSTM]
    for name, p in layer.named_parameters():
        assert torch.equal(p, before[name])


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_a_moving_average_of_buffers_has_the_statistics_of_all_steps(backend: str) -> None:
    """Averages of whole numbers are rounded down: those of steps_seen stay behind."""
    torch.manual_seed(0)
    layer: Any = LSTM(5, 4, norm=config("batch", max_steps=12), backend=backend)
    average: Any = AveragedModel(
        layer, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True
    ).eval()
    x = torch.randn(9, 8, 5) + torch.arange(9.0)[:, None, None]
    for update in range(200):
        layer(x[: 3 if update < 2 else 9] + 0.1 * torch.randn(8, 5))
        average.update_parameters(layer)
    assert average.module.steps_seen_l0 < layer.steps_seen_l0 == 9
    found = average(x)
    average.module.steps_seen_l0.fill_(9)
    torch.testing.assert_close(found, average(x))


def test_without_a_momentum_the_statistics_are_those_of_all_batches() -> None:
    """As torch.nn's: None makes a cumulative average, which each batch changes."""
    layer, expected = trained(), trained()
    with recalibrating(expected.eval()), torch.no_grad():
        for batch in BATCHES:
            expected(batch)
    layer.running_statistics.reset_running_stats()
    layer.running_statistics.momentum = None
    assert layer.running_statistics.momentum is None
    for batch in BATCHES:
        layer(batch)
    torch.testing.assert_close(buffers_of(layer), buffers_of(expected))
    layer.running_statistics.reset_running_stats()
    layer(BATCHES[0])
    alone = trained()
    alone.running_statistics.reset_running_stats()
    alone(BATCHES[0])
    torch.testing.assert_close(buffers_of(layer), buffers_of(alone))


def test_update_bn_that_fails_leaves_a_layer_that_goes_on() -> None:
    def loader() -> Iterator[Tensor]:
        yield BATCHES[0]
        raise OSError("disk")

    layer = trained()
    with pytest.raises(OSError, match="disk"):
        update_bn(loader(), layer)
    before = buffers_of(layer)
    layer.train()(BATCHES[1])
    assert not torch.equal(layer.running_mean_ih_l0, before["running_mean_ih_l0"])
