"""The settings of a norm, which check themselves."""

import math
from dataclasses import fields
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from oracles import CELLS, config

from seq2seq.rnn import CellNorm, NormConfig, NormGroup, NormKind, Statistics, Terms
from seq2seq.rnn.config import MEANINGFUL

OTHER: dict[str, Any] = {
    "eps": 1e-3,
    "gain": 0.5,
    "cell": CellNorm.carried,
    "terms": Terms.joint,
    "group": NormGroup.gate,
    "statistics": Statistics.shared,
    "momentum": 0.2,
    "max_steps": 64,
    "min_rows": 8,
}
"""A value other than the default for every setting except the kind."""


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("layer", {"eps": 1e-46}, r"norm\.eps=1e-46: expected .*: 1e-30 to 1000"),
        ("layer", {"eps": 0.0}, r"norm\.eps=0\.0: expected a finite number above 0"),
        ("batch", {"eps": -1.0}, r"norm\.eps=-1\.0: expected a finite number above 0"),
        ("rms", {"eps": math.inf}, r"norm\.eps=inf: expected a finite number above 0"),
        ("rms", {"eps": math.nan}, r"norm\.eps=nan: expected a finite number above 0"),
        ("layer", {"gain": math.nan}, r"norm\.gain=nan: expected a finite number or none"),
        ("layer", {"gain": -math.inf}, r"norm\.gain=-inf: expected a finite number or none"),
        ("batch", {"momentum": 1.5}, r"norm\.momentum=1\.5: expected a weight from 0 to 1"),
        ("batch", {"momentum": math.nan}, r"norm\.momentum=nan: expected a weight from 0 to 1"),
        ("batch", {"max_steps": 0}, r"norm\.max_steps=0: expected at least 1"),
        ("batch", {"min_rows": 1}, r"norm\.min_rows=1: expected at least 2"),
        ("batch", {"group": "gate"}, r"norm\.group=gate: .*expected group=vector"),
        (
            "batch",
            {"statistics": "sequence_input", "terms": "joint"},
            r"norm\.terms=joint: .*expected norm\.terms=separate",
        ),
        (
            "batch",
            {"statistics": "sequence_input", "terms": "joint_all"},
            r"norm\.terms=joint_all: .*expected norm\.terms=separate",
        ),
    ],
)
def test_values_out_of_range_are_refused(kind: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(kind, **options)


def test_a_kind_given_as_a_string_is_refused() -> None:
    with pytest.raises(ValueError, match=r"norm\.kind='layer': expected a NormKind"):
        NormConfig("layer")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", OTHER)
@pytest.mark.parametrize("kind", NormKind)
def test_meaningless_settings_are_refused_and_others_kept(kind: NormKind, name: str) -> None:
    if name in MEANINGFUL[kind] and (kind, name) != (NormKind.batch, "group"):
        assert getattr(NormConfig(kind, **{name: OTHER[name]}), name) == OTHER[name]
    else:
        with pytest.raises(ValueError, match=rf"norm\.{name}=.*expected"):
            NormConfig(kind, **{name: OTHER[name]})


def test_the_message_names_the_default() -> None:
    with pytest.raises(
        ValueError,
        match=r"norm\.statistics=shared: means nothing to norm\.kind=layer; expected per_step",
    ):
        NormConfig(NormKind.layer, statistics=Statistics.shared)
    with pytest.raises(ValueError, match=r"norm\.gain=0\.5: .* norm\.kind=none; expected null"):
        NormConfig(NormKind.none, gain=0.5)


@pytest.mark.parametrize("kind", NormKind)
def test_defaults_written_out_are_accepted(kind: NormKind) -> None:
    """The config.yaml of a run has them."""
    defaults: dict[str, Any] = {f.name: f.default for f in fields(NormConfig)}
    defaults["kind"] = kind
    assert NormConfig(**defaults) == NormConfig(kind)


def test_omegaconf_makes_and_checks_a_norm_config() -> None:
    schema = OmegaConf.structured(NormConfig)
    made = OmegaConf.to_object(OmegaConf.merge(schema, {"kind": "batch", "min_rows": 8}))
    assert made == NormConfig(NormKind.batch, min_rows=8)
    with pytest.raises(ValueError, match=r"norm\.min_rows=8: means nothing to norm\.kind=rms"):
        OmegaConf.to_object(OmegaConf.merge(schema, {"kind": "rms", "min_rows": 8}))


@pytest.mark.parametrize("placement", ["carried", "carried_only"])
@pytest.mark.parametrize("cell", ["gru", "rnn_tanh"])
def test_norm_cell_needs_a_cell_state(cell: str, placement: str) -> None:
    with pytest.raises(
        ValueError,
        match=rf"norm\.cell={placement}: a [A-Z]+ has no cell state .*expected output or none",
    ):
        CELLS[cell](3, 4, norm=config("layer", cell=placement))


@pytest.mark.parametrize("cell", ["gru", "rnn_tanh"])
def test_a_cell_without_a_state_may_be_without_its_norm(cell: str) -> None:
    found = []
    for placement in ("output", "none"):
        torch.manual_seed(0)
        layer = CELLS[cell](3, 4, norm=config("layer", cell=placement))
        found.append(layer(torch.ones(2, 3))[0])
    assert torch.equal(*found)
