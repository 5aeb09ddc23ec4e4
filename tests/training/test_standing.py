"""One order for best checkpoint, patience, plateau and averaging: BLEU, then chrF, then the loss."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from conftest import TrainHere, write_pairs
from sacrebleu.tokenizers import tokenizer_ko_mecab
from training_states import NewState, fit_quietly, training_entries, weights

from seq2seq.runs.checkpoint import group, load_checkpoint
from seq2seq.runs.folder import Run
from seq2seq.training import evaluation, validation
from seq2seq.training.state import Progress, TrainingState
from seq2seq.translation.scores import Scores

pytest_plugins = ["training_fixtures"]

EVERY = ("trainer.validate_every=1", "trainer.log_every=1")
Measured = tuple[float, float, float]
"""BLEU, chrF and loss of a validation."""
Validated = Callable[..., TrainingState]


@pytest.fixture
def validated(new_state: NewState, monkeypatch: pytest.MonkeyPatch) -> Validated:
    """Return a function that runs the loop; its validations measure the given figures in turn."""

    def run(*overrides: str, figures: Sequence[Measured], smoothing: bool = False) -> TrainingState:
        left = list(figures)

        def scores(*_: object) -> tuple[Scores, list[str]]:
            bleu, chrf, _loss = left[0]
            return Scores(bleu, chrf, "", "", is_smoothing=smoothing), ["a"]

        def loss(*_: object) -> float:
            return left[0][2]

        def write(*_: object) -> None:
            del left[0]

        monkeypatch.setattr(validation, "validation_bleu", scores)
        monkeypatch.setattr(validation, "teacher_forced_loss", loss)
        monkeypatch.setattr(validation, "write_samples", write)
        state = new_state(*EVERY, f"trainer.max_updates={len(figures)}", *overrides)
        fit_quietly(state)
        return state

    return run


FALLING = [(0.0, 0.0, 3.0), (0.0, 20.0, 2.0), (0.0, 60.0, 1.0), (0.0, 60.0, 0.5), (0.0, 60.0, 0.7)]
"""What a model that learns transliteration looks like: BLEU 0 for ever."""


def test_where_bleu_is_zero_chrf_and_then_the_loss_decide(validated: Validated) -> None:
    t = validated(figures=FALLING)
    assert (t.progress.best_update, t.progress.bad_validations) == (4, 1)
    assert [t.progress.best, *t.progress.best_ties] == [0.0, 60.0, -0.5]
    assert load_checkpoint(t.run.checkpoint("best"))[1]["progress"]["update"] == 4


def test_where_bleu_differs_nothing_else_counts(validated: Validated) -> None:
    t = validated(figures=[(30.0, 10.0, 3.0), (29.99, 90.0, 0.1), (30.01, 5.0, 9.0)])
    assert (t.progress.best, t.progress.best_update) == (30.01, 3)


def test_where_everything_is_equal_the_first_stays(validated: Validated) -> None:
    t = validated(figures=[(5.0, 6.0, 7.0)] * 3)
    assert (t.progress.best_update, t.progress.bad_validations) == (1, 2)


def test_patience_and_plateau_follow_the_same_order(validated: Validated) -> None:
    t = validated(
        "trainer.patience=2",
        "optimizer.schedule=plateau",
        "optimizer.warmup_updates=0",
        "optimizer.lr=0.5",
        figures=[*FALLING, (0.0, 60.0, 0.6), (0.0, 99.0, 0.1)],
    )
    assert t.progress.update == 6
    rates = [entry["lr"] for entry in training_entries(t)]
    assert rates == pytest.approx([0.5] * 5 + [0.25])


def test_the_loss_alone_decides_where_it_is_asked_for(validated: Validated) -> None:
    t = validated(
        "trainer.best_metric=loss", figures=[(9.0, 9.0, 2.0), (1.0, 1.0, 1.0), (50.0, 50.0, 1.0)]
    )
    assert (t.progress.best, t.progress.best_ties, t.progress.best_update) == (-1.0, [], 2)


def test_it_is_said_once(validated: Validated, capsys: pytest.CaptureFixture[str]) -> None:
    validated(figures=FALLING)
    printed = capsys.readouterr().out
    tie = "BLEU does not tell this model from the best one: both have no right sequence"
    assert printed.count(tie) == 1
    validated("hydra.run.dir=x", figures=[(1.0, 0.0, 1.0), (2.0, 0.0, 1.0)])
    assert "BLEU does not tell" not in capsys.readouterr().out


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    """Return settings of a corpus of names, of one or two words."""
    pairs = [(f"{first} {last}", f"{last} {first}") for first in "abcde" for last in "vwxyz"]
    return write_pairs(tmp_path / "names", "valid", pairs)


def test_smoothing_alone_is_no_score_of_short_references(
    validated: Validated, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A long wrong output has a BLEU above 0, a right short one has 0."""
    figures = [(0.8, 1.0, 3.0), (0.0, 99.0, 0.1)]
    t = validated(*names, figures=figures, smoothing=True)
    assert (t.progress.best, t.progress.best_update) == (0.0, 2)
    printed = capsys.readouterr().out
    assert printed.count("25 of 25 references have fewer than 4 tokens") == 1
    assert "data.bleu_tokenizer=13a" in printed


def test_smoothing_alone_is_no_score_of_long_references_either(
    validated: Validated, tmp_path: Path
) -> None:
    """An untrained model has such a BLEU by chance."""
    long = write_pairs(tmp_path / "long", "valid", [("do re mi fa sol", "sol fa mi re do")] * 20)
    t = validated(*long, figures=[(0.8, 1.0, 3.0), (0.0, 99.0, 0.1)], smoothing=True)
    assert (t.progress.best, t.progress.best_update) == (0.0, 2)


def test_what_best_records_is_resumed_exactly(validated: Validated) -> None:
    t = validated(figures=FALLING[:4])
    before, t.progress = t.progress, Progress()
    t.restore()
    assert t.progress == before
    assert t.progress.best_ties == [60.0, -0.5]


def test_a_record_without_ties_loses_a_tie(validated: Validated) -> None:
    """Such a record is that of an older version, which knew BLEU alone."""
    t = validated(figures=FALLING[:1])
    t.progress.best_ties = []
    validation.keep_best(t, [0.0, 0.0, -5.0])
    assert (t.progress.best_ties, t.progress.bad_validations) == ([0.0, -5.0], 0)


def test_a_tokenizer_that_is_missing_is_met_before_training(
    new_state: NewState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer_ko_mecab, "MeCab", None)
    with pytest.raises(ValueError, match=r"^data.bleu_tokenizer=ko-mecab: cannot be loaded"):
        new_state("data.bleu_tokenizer=ko-mecab")


@pytest.mark.parametrize("chrf", [50.0, 40.0])
def test_an_average_is_taken_by_the_same_order(
    chrf: float, train_here: TrainHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: dict[str, dict[str, torch.Tensor]] = {}
    save = TrainingState.save

    def keeping(
        self: TrainingState, name: str = "last", standing: list[float] | None = None
    ) -> None:
        save(self, name, standing)
        kept[name] = weights(self.model)

    def scores(chrf: float) -> Callable[..., tuple[Scores, list[str]]]:
        return lambda *_: (Scores(0.0, chrf, "", ""), ["a"])

    monkeypatch.setattr(TrainingState, "save", keeping)
    monkeypatch.setattr(validation, "validation_bleu", scores(45.0))
    monkeypatch.setattr(evaluation, "validation_bleu", scores(chrf))
    monkeypatch.setattr(validation, "write_samples", lambda *_: None)
    run: Run = train_here(
        tmp_path / "run", *EVERY, "trainer.max_updates=3", "trainer.average_last=2"
    )
    tensors, state = load_checkpoint(run.checkpoint("best"))
    best = group(tensors, "model")
    is_best = all(torch.equal(best[name], kept["best"][name]) for name in best)
    assert is_best is (chrf < 45.0)
    assert state["progress"]["best_ties"][0] == max(chrf, 45.0)
