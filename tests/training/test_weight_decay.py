"""Weight decay: what it pulls, and what it leaves alone."""

from pathlib import Path

import pytest
import torch
import yaml
from composing import composed
from conftest import TrainHere
from torch import nn

from seq2seq.config import OptimizerConfig, OptimizerKind
from seq2seq.rnn import GRU, LSTM
from seq2seq.runs.checkpoint import load_checkpoint
from seq2seq.runs.configuration import read_config
from seq2seq.runs.folder import Run
from seq2seq.training.optimizer import make_optimizer, parameter_groups

KINDS = list(OptimizerKind)


def after_one_step(layer: nn.Module, config: OptimizerConfig) -> dict[str, float]:
    """By how much each parameter has shrunk where no gradient moves it."""
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    optimizer = make_optimizer(layer, config)
    for p in layer.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    return {
        name: float((before[name] - p).abs().max().detach()) for name, p in layer.named_parameters()
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_matrices_are_pulled_and_vectors_are_not(kind: OptimizerKind, norm: str) -> None:
    torch.manual_seed(1)
    layer = nn.ModuleDict(
        {
            "rnn": LSTM(3, 4, norm=norm),
            "gru": GRU(3, 4, norm=norm),
            "embedding": nn.Embedding(5, 3),
            "linear": nn.Linear(3, 1),
            "torch": nn.LayerNorm(4),
        }
    )
    for name, p in layer.named_parameters():
        nn.init.constant_(p, 1.0)
        assert p.ndim in (1, 2), name
    moved = after_one_step(layer, OptimizerConfig(kind=kind, weight_decay=0.1, lr=0.01))
    pulled = {name for name, by in moved.items() if by > 0}
    assert pulled == {name for name in moved if ".weight" in name and name != "torch.weight"}
    if norm != "none":
        assert {"rnn.gain_ih_l0", "rnn.bias_c_l0"} <= moved.keys() - pulled


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_are_pulled_on_request(kind: OptimizerKind) -> None:
    layer = LSTM(3, 4, norm="layer")
    for p in layer.parameters():
        nn.init.constant_(p, 1.0)
    config = OptimizerConfig(kind=kind, weight_decay=0.1, decay_vectors=True, lr=0.01)
    assert min(after_one_step(layer, config).values()) > 0


def test_without_weight_decay_there_is_one_group_in_the_models_order() -> None:
    layer = LSTM(3, 4, norm="layer")
    [group] = parameter_groups(layer, OptimizerConfig())
    assert group["weight_decay"] == 0
    assert [id(p) for p in group["params"]] == [id(p) for p in layer.parameters()]


def test_the_setting_has_an_effect_or_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^optimizer.decay_vectors=true: .* optimizer.weight_decay above 0"
    ):
        composed("optimizer.decay_vectors=true")
    assert composed("optimizer=adamw", "optimizer.decay_vectors=true").optimizer.decay_vectors


def test_a_run_of_an_earlier_version_keeps_what_it_was_trained_with(
    train_here: TrainHere, tmp_path: Path
) -> None:
    """Its config.yaml has no decay_vectors, and its optimizer pulled every parameter."""
    decayed = ["optimizer=adamw", "optimizer.warmup_updates=2", "optimizer.weight_decay=0.5"]
    whole = train_here(tmp_path / "whole", *decayed, "optimizer.decay_vectors=true")
    run = train_here(
        tmp_path / "old", *decayed, "optimizer.decay_vectors=true", "trainer.max_epochs=1"
    )
    old = yaml.safe_load(run.config_file.read_text(encoding="utf-8"))
    del old["optimizer"]["decay_vectors"]
    run.config_file.write_text(yaml.safe_dump(old), encoding="utf-8")
    assert run.config().optimizer.decay_vectors
    resume(run, max_epochs=2)
    for name in ("last", "best"):
        found, expected = (load_checkpoint(r.checkpoint(name))[0] for r in (run, whole))
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    plain = train_here(tmp_path / "plain", *decayed)
    weights, others = (load_checkpoint(r.checkpoint("best"))[0] for r in (whole, plain))
    assert not torch.equal(weights["model.output.bias"], others["model.output.bias"])


def test_a_configuration_without_decay_has_no_new_setting(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("optimizer: {kind: adam}\n")
    assert not read_config(tmp_path / "config.yaml").optimizer.decay_vectors


def resume(run: Run, max_epochs: int) -> None:
    """Train a run on, as resume=RUN trainer.max_epochs=N does."""
    from dataclasses import replace

    from seq2seq.training.loop import train

    config = run.config()
    trainer = replace(config.trainer, max_epochs=max_epochs)
    train(replace(config, resume=str(run.folder), trainer=trainer), run)
