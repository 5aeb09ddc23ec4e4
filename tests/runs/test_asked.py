"""Overrides that set something without effect get a remark, whether or not it is the default."""

from pathlib import Path

import pytest
import torch
from composing import composed

from seq2seq.config import Config
from seq2seq.config.settings import BY_DESIGN, settings, without_effect
from seq2seq.rnn import GRU, RNN, CellNorm, NormConfig, NormGroup
from seq2seq.runs.asked import without_effect_remarks
from seq2seq.runs.folder import Run

LSTM_ONLY = "has no effect here, only with cell.kind=lstm"
ANY_NORM = "has no effect here, only with norm.kind=batch or layer or rms"


def remarks(*overrides: str) -> list[str]:
    """Return what a run with these overrides reports about them."""
    return without_effect_remarks(composed(*overrides), overrides)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ("cell=gru norm.cell=output", f"norm.cell=output: {LSTM_ONLY}"),
        ("cell=rnn norm=batch norm.cell=output", f"norm.cell=output: {LSTM_ONLY}"),
        ("cell=gru norm=layer_cell", f"norm=layer_cell: norm.cell=output {LSTM_ONLY}"),
        ("cell=gru norm=batch_cell", f"norm=batch_cell: norm.cell=output {LSTM_ONLY}"),
        ("norm=none norm.cell=output", f"norm.cell=output: {ANY_NORM}"),
        ("norm=none norm.eps=1e-5", f"norm.eps=1e-5: {ANY_NORM}"),
        ("norm.min_rows=2", "norm.min_rows=2: has no effect here, only with norm.kind=batch"),
        (
            "norm=batch_shared norm.max_steps=9",
            "norm.max_steps=9: has no effect here, only with norm.statistics=per_step or"
            " sequence_input",
        ),
        (
            "cell=rnn norm.group=gate",
            "norm.group=gate: has no effect here, only with cell.kind=lstm or gru",
        ),
        (
            "trainer.recalibrate_batches=5",
            "trainer.recalibrate_batches=5: has no effect here, only with norm.kind=batch",
        ),
        (
            "decode.beam_size=1 decode.length_penalty=0.5",
            "decode.length_penalty=0.5: has no effect here, only with decode.beam_size above 1",
        ),
        (
            "optimizer=sgd data.lr=0.1",
            "data.lr=0.1: has no effect here, only with optimizer.lr=${data.lr}",
        ),
        (
            "data.epochs=3 trainer.max_epochs=4",
            "data.epochs=3: has no effect here, only with trainer.max_epochs=${data.epochs}",
        ),
        (
            "optimizer=sgd optimizer.betas=[0.9,0.999]",
            "optimizer.betas=[0.9,0.999]: has no effect here, only with optimizer.kind=adam or adamw",
        ),
        (
            "optimizer.plateau_patience=1",
            "optimizer.plateau_patience=1: has no effect here, only with optimizer.schedule=plateau",
        ),
    ],
)
def test_what_has_no_effect_is_named_with_what_gives_it_one(overrides: str, expected: str) -> None:
    assert remarks(*overrides.split()) == [expected]
    assert len(expected) <= 200


def test_a_gain_of_a_norm_that_the_cell_does_not_have_is_refused() -> None:
    """The layer refuses it, so that there are no such runs."""
    with pytest.raises(ValueError, match=r"norm\.cell_gain=0\.3: expected null.*cell\.kind=lstm"):
        composed("cell=gru", "norm.cell=output", "norm.cell_gain=0.3")


@pytest.mark.parametrize(
    "overrides",
    [
        "",
        "cell=gru",
        "cell=gru norm=batch",
        "norm=none",
        "norm=layer_cell",
        "cell=gru norm=layer_cell norm.cell=none",
        "cell=gru norm.cell=none",
        "optimizer=sgd",
        "optimizer.momentum=0",
        "decode.beam_size=1",
        "data=multi30k_de_en optimizer.lr=0.01 trainer.max_epochs=3",
        "data.lr=0.1",
        "trainer.recalibrate=false",
        "data.test.source=null data.test.target=null",
    ],
)
def test_values_that_nobody_asked_for_or_that_turn_something_off_are_not_named(
    overrides: str,
) -> None:
    assert remarks(*overrides.split()) == []


def test_settings_on_record_stay_as_they_are(tmp_path: Path) -> None:
    """A remark changes no setting: runs that are compared keep what they were trained with."""
    overrides = ["cell=gru", "norm.cell=output", "decode.beam_size=1"]
    config = composed(*overrides)
    before = settings(config)
    assert {"norm.cell", "decode.length_penalty"} <= without_effect(config).keys()
    assert settings(config) == before
    Run(tmp_path, overrides).save_config(config)
    assert settings(Run(tmp_path).config()) == before


def test_every_setting_without_effect_is_a_setting() -> None:
    for overrides in ([], ["norm=none"], ["cell=rnn", "optimizer=sgd", "tokenizer=word"]):
        config = composed(*overrides)
        assert without_effect(config).keys() <= settings(config).keys() - BY_DESIGN.keys()


# -- that they have none ---


@pytest.mark.parametrize(
    ("layer", "one", "other"),
    [
        (GRU, NormConfig(cell=CellNorm.output), NormConfig(cell=CellNorm.none)),
        (RNN, NormConfig(cell=CellNorm.output), NormConfig(cell=CellNorm.none)),
        (RNN, NormConfig(group=NormGroup.gate), NormConfig(group=NormGroup.vector)),
    ],
)
def test_these_norms_are_the_same(
    layer: type[GRU | RNN], one: NormConfig, other: NormConfig
) -> None:
    x, outputs = torch.randn(5, 3, 4), []
    for norm in (one, other):
        torch.manual_seed(0)
        outputs.append(layer(4, 6, norm=norm)(x)[0])
    assert torch.equal(*outputs)


def test_a_configuration_is_not_changed_by_the_question() -> None:
    config = Config()
    before = settings(config)
    without_effect(config)
    assert settings(config) == before
