"""The configurations that other tests get are those that Hydra composes of all overrides at once."""

import pytest
from composing import by_hydra, composed, composed_settings, sets_value
from hydra.errors import HydraException
from omegaconf import OmegaConf

from seq2seq.app import composition


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["seed=3", "norm=batch", "norm.statistics=shared", "seed=4", "data=multi30k_de_en"],
        ["experiment=length", "data.train_pairs=7", "size=quick", "cell=gru", "optimizer.lr=3"],
        ["data=tatoeba_en_zh", "data.more_tests.newstest2021.source=a", "tokenizer.joint=true"],
        [
            "data.name='a, b'",
            "trainer.max_updates=7",
            "probe.kinds=[gradient_flow]",
            "probe.lengths=[3,4]",
        ],
        ["model=base", "decode.max_length=${data.max_length}", "data.max_length=9", "data=files"],
        ["data.grammar_splits.train.count=31", "tokenizer=unigram", "tokenizer.vocab_size=40"],
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["train", "prepare_data"])
def test_they_are_those_of_hydra(name: str, overrides: list[str]) -> None:
    expected = by_hydra(overrides, name)
    for _ in range(2):  # the kept files are as they were
        found = composed_settings(*overrides, name=name)
        assert OmegaConf.to_yaml(found) == OmegaConf.to_yaml(expected)
    assert composed(*overrides, name=name) == composition.composed(expected)


@pytest.mark.parametrize(
    "override", ["norm.epsilon=1", "nothing=1", "optimizer.lr=fast", "norm=nothing", "seed="]
)
def test_errors_are_those_of_hydra(override: str) -> None:
    with pytest.raises(HydraException) as expected:
        by_hydra([override])
    with pytest.raises(expected.type) as found:
        composed_settings(override)
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        *(("seed=1", True), ("data.root=a=b", True), ("norm=batch", False), ("~norm", False)),
        *(("+data.a=1", False), ("experiment/size=x", False), ("hydra.run.dir=a", False)),
    ],
)
def test_choices_of_files_are_told_from_values(override: str, value: bool) -> None:
    assert sets_value(override) == value
