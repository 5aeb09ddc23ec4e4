"""Every setting and every choice changes the configuration that training takes, or is refused.

Their effects on training are tested in test_effects_of_training.py.
"""

import re
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import combinations
from pathlib import Path

import pytest
from composing import composed
from conftest import ROOT
from effects import CONSUMERS, NEEDED, keys, others, settings_of_a_run

from seq2seq.app.overrides import choices
from seq2seq.config import Config
from seq2seq.config.settings import BY_DESIGN, CHANGEABLE, CONFIGS, differences, settings
from seq2seq.data.corpora import read_split

GROUPS = [f.name for f in fields(Config) if is_dataclass(f.type)]
FILES = ("experiment", "size")
"""Settings that choose a file; their choices are tested one by one."""
REFUSED = {"data.grammar", "data.grammar_seed", "data.origin"}
"""Settings of which every other value is refused in a small run."""
GRAMMAR = [
    "data=grammar_en_zh",
    "data.test.source=null",
    "data.test.target=null",
    *(f"data.grammar_splits.{split}.count=30" for split in ("train", "valid", "test", "test_long")),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the settings of a run of three updates."""
    return settings_of_a_run(tmp_path_factory.mktemp("corpus"))


@cache
def composed_once(*overrides: str) -> Config:
    """Return a configuration that tests may only read."""
    return composed(*overrides)


def composed_if_valid(*overrides: str) -> Config | None:
    """Return the configuration of these overrides; None if they are refused with the usual error."""
    try:
        return composed(*overrides)
    except ValueError as error:
        if "expected" not in str(error):
            raise
        return None


@pytest.mark.parametrize("key", [key for key in keys() if key not in (*CONSUMERS, *FILES)])
def test_a_setting_reaches_the_configuration_or_is_refused(
    key: str, base: list[str], tmp_path: Path
) -> None:
    """Another value changes this setting of the run, or the error says what is expected."""
    plain = composed_once(*base, *NEEDED.get(key, []))
    value = settings(plain)[key]
    accepted = 0
    for other in others(key, value, tmp_path):
        changed = composed_if_valid(*base, *NEEDED.get(key, []), f"{key}={other}")
        if changed is not None:
            accepted += 1
            assert settings(changed)[key] != value
            assert key in differences(plain, changed) or key in CHANGEABLE
    assert accepted or key in REFUSED


@pytest.mark.parametrize("key", CONSUMERS)
def test_a_setting_without_effect_on_a_small_run_is_read_by_its_module(key: str) -> None:
    file, read = CONSUMERS[key]
    assert re.search(read, (ROOT / "seq2seq" / file).read_text(encoding="utf-8"))


@pytest.mark.parametrize("group", GROUPS)
def test_choices_of_a_group_differ_in_settings_with_an_effect(group: str) -> None:
    found = {choice: composed(f"{group}={choice}") for choice in choices(group)}
    for one, other in combinations(found, 2):
        assert differences(found[one], found[other]).keys() - set(BY_DESIGN), (one, other)


@pytest.mark.parametrize(
    "change",
    ["data.grammar_seed=2", "data.grammar_splits.train.count=31"]
    + [f"data.grammar_splits.train.{name}" for name in ("min_words=9", "max_words=6")],
)
def test_settings_of_a_grammar_change_its_text(change: str, tmp_path: Path) -> None:
    root = f"data.root={tmp_path}"
    texts = [read_split(composed(*GRAMMAR, root, *more).data, "train") for more in ([], [change])]
    assert texts[0] != texts[1]


@pytest.mark.parametrize("group", ["experiment", "size"])
def test_every_experiment_and_size_changes_settings(group: str) -> None:
    plain = composed()
    for choice in choices(group):
        found = differences(plain, composed(f"{group}={choice}"))
        assert found.keys() - set(BY_DESIGN) or choice == "convergence"


def test_settings_without_effect_exist_and_have_a_reason() -> None:
    known = settings(Config())
    for key, changes in BY_DESIGN.items():
        assert key in known or any(k.startswith(f"{key}.") for k in known) or key in (
            "data.sha256", "data.more_tests",
        )  # fmt: skip
        assert changes
    assert (CONFIGS / "train.yaml").is_file()
