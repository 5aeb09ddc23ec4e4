"""Every setting has an effect on training, or is refused, or is listed as without effect by design.

The tests compare the logs, weights, scores, translations and tokenizers of small trainings.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from composing import composed
from conftest import final_results
from effects import CONSUMERS, NEEDED, keys, others, settings_of_a_run

from seq2seq.app.overrides import choices
from seq2seq.config import Config
from seq2seq.config.settings import BY_DESIGN, settings
from seq2seq.runs.checkpoint import load_checkpoint
from seq2seq.runs.folder import Run
from seq2seq.training.loop import train

pytestmark = pytest.mark.slow
Trained = Callable[..., str]
TIMES = ("seconds", "tokens_per_second", "wall_seconds", "time")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the settings of a run of three updates."""
    return settings_of_a_run(tmp_path_factory.mktemp("corpus"))


def without_times(value: Any) -> Any:
    """Return a JSON value without what differs from one training to the next."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if k not in TIMES and "second" not in k}
        return {k: without_times(v) for k, v in kept.items()}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def fingerprint(config: Config, folder: Path) -> str:
    """Return a hash of all that a training leaves, except its settings and its times."""
    train(config, Run(folder))
    run = Run(folder)
    digest = hashlib.sha256()
    for name in ("metrics.jsonl", "probes.jsonl"):
        path = run.folder / name
        for line in path.read_text().splitlines() if path.exists() else []:
            digest.update(repr(without_times(json.loads(line))).encode())
    results = without_times(final_results(run))
    digest.update(
        repr({k: results[k] for k in ("valid", "test", "update") if k in results}).encode()
    )
    for path in sorted([*run.folder.glob("tokenizer*"), *run.translations.iterdir()]):
        digest.update(path.name.encode() + path.read_bytes())
    for name, tensor in sorted(load_checkpoint(run.checkpoint("best"))[0].items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def trained(base: list[str], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return the fingerprint of the base with these overrides; ValueError if they are refused."""
    known = {}

    def make(*overrides: str) -> str:
        if overrides not in known:
            config = composed(*base, *overrides)
            known[overrides] = fingerprint(config, tmp_path_factory.mktemp("run") / "run")
        return known[overrides]

    return make


@pytest.mark.parametrize("key", [key for key in keys() if key not in CONSUMERS])
def test_a_setting_has_an_effect_or_is_refused_or_is_listed(
    key: str, base: list[str], trained: Trained, tmp_path: Path
) -> None:
    needed = NEEDED.get(key, [])
    value = settings(composed(*base, *needed))[key]
    before = trained(*needed)
    effects = 0
    for other in others(key, value, tmp_path):
        if key == "resume" or (key, other) == ("data.grammar", "other"):
            continue
        try:
            changed = trained(*needed, f"{key}={other}")
        except (ValueError, OSError):  # refused, or its text does not exist
            continue
        if key not in BY_DESIGN:
            assert changed != before, f"{key}={other}"
        effects += changed != before
    if key in BY_DESIGN and key not in ("trainer.recalibrate", "backend"):
        assert not effects, f"{key} is listed as without effect"


@pytest.mark.parametrize("key", [key for key in NEEDED if not key.startswith("norm.")])
def test_a_setting_has_an_effect_with_the_settings_that_it_needs(
    key: str, base: list[str], trained: Trained, tmp_path: Path
) -> None:
    value = settings(composed(*base, *NEEDED[key]))[key]
    found = set()
    for other in others(key, value, tmp_path):
        try:
            found.add(trained(*NEEDED[key], f"{key}={other}"))
        except ValueError:
            assert key == "tokenizer.byte_fallback"  # the vocabulary has no room for 256 bytes
            return
    assert found - {trained(*NEEDED[key])}


GROUPS = [f.name for f in fields(Config) if is_dataclass(f.type)]
CHOICES = [(group, choice) for group in GROUPS for choice in choices(group)]


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_of_a_group_gives_a_different_run(
    group: str, choice: str, base: list[str], trained: Trained
) -> None:
    """Choices of data are compared by their settings, in test_effects.py."""
    if group == "data" or len(choices(group)) == 1:
        return
    apart = {"model": "data.name=toy", "tokenizer": "tokenizer.vocab_size=20"}.get(group)
    more = [apart] if apart else []
    mine = trained(*more, f"{group}={choice}")
    for other in choices(group):
        if other != choice:
            assert trained(*more, f"{group}={other}") != mine, other
