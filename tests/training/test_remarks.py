"""What a run reports at its start: settings that will not do what they are for."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from combinations import few
from conftest import TrainCommand, reversed_pairs, write_pairs
from training_states import NewState, first_batches, fit_quietly

from seq2seq.training.processes import Processes
from seq2seq.training.remarks import first_remarks, most_rows
from seq2seq.training.state import TrainingState

pytest_plugins = ["training_fixtures"]
BATCH = ("norm=batch", "trainer.max_updates=3", "optimizer.warmup_updates=0")


def steps_normalised(state: TrainingState) -> int:
    """Return how many updates of a step's statistics the recurrent terms have had."""
    buffers = state.model.named_buffers()
    return sum(int(b.sum()) for name, b in buffers if "num_updates_hh" in name)


# -- batches that are too small for batch norm ---


@few({"sentences": [1, 4, 8], "min_rows": [2, 4, 5, 8], "r_drop": [0, 1]})
def test_batches_with_too_few_rows_are_reported(
    sentences: int, min_rows: int, r_drop: int, new_state: NewState
) -> None:
    """There is a line exactly where the training leaves all statistics alone."""
    sizes = f"data.batch_sentences={sentences}", f"norm.min_rows={min_rows}"
    state = new_state(*BATCH, *sizes, f"trainer.r_drop={r_drop}")
    remarks = first_remarks(state)
    fit_quietly(state)
    assert bool(remarks) == (steps_normalised(state) == 0)
    if remarks:
        (remark,) = remarks
        most = sentences * (2 if r_drop else 1)
        assert remark.startswith(
            f"norm.min_rows={min_rows}: every batch has fewer rows (at most {most}),"
        )
        assert "normalises no recurrent term of these" in remark
        assert "try a larger data.batch_sentences" in remark
        assert (f"norm.min_rows={most} or less" in remark) == (most > 1)
        assert len(remark) <= 200


def test_a_share_of_small_batches_is_reported_above_a_half(new_state: NewState) -> None:
    sizes = "data.batch_sentences=null", "data.batch_tokens=40"
    state = new_state(*BATCH, *sizes, "norm.min_rows=9", "norm.statistics=per_step")
    share = float((state.sampler.sizes() < 9).mean())
    assert 0.5 < share < 1
    (remark,) = first_remarks(state)
    assert "normalises no step of these" in remark
    assert f"{int(100 * share)}% of the batches have fewer rows" in remark
    assert "data.batch_tokens" in remark
    assert first_remarks(new_state(*BATCH, *sizes, "norm.min_rows=4")) == []


@pytest.mark.parametrize("sync", [False, True])
def test_rows_are_those_of_the_share_of_a_process(sync: bool, new_state: NewState) -> None:
    state = new_state(*BATCH, "data.batch_sentences=7", f"norm.sync={str(sync).lower()}")
    whole = state.sampler.sizes()
    for size in (1, 2, 3, 8):
        divided = replace(state, processes=Processes(0, size))
        batches = first_batches(replace(state, sampler=replace(state.sampler)), len(whole))
        shares = [share for b in batches if (share := b.share(0, size)) is not None]
        expected = [len(b.src) for b in (batches if sync else shares)]
        assert sorted(most_rows(divided)) == sorted(expected)
    assert np.array_equal(most_rows(state), whole)


def test_other_norms_need_no_rows(new_state: NewState) -> None:
    small = "data.batch_sentences=1", "trainer.max_updates=3", "optimizer.warmup_updates=0"
    assert first_remarks(new_state("norm=layer", *small)) == []


def test_the_run_reports_it(train_command: TrainCommand, toy: list[str]) -> None:
    done = train_command(*toy, *BATCH, "data.batch_sentences=4", "trainer.max_updates=1")
    assert done.code == 0
    assert done.out.count("norm.min_rows=8: every batch has fewer rows (at most 4)") == 1


# -- validation text that is trained on ---


@pytest.mark.parametrize(("known", "is_reported"), [(12, False), (13, True), (24, True)])
def test_validation_text_that_is_trained_on_is_reported(
    known: int, is_reported: bool, new_state: NewState, tmp_path: Path
) -> None:
    new = [(f"ut {i}", f"{i} ut") for i in range(24 - known)]
    valid = write_pairs(tmp_path, "valid", [*reversed_pairs(240, 0)[:known], *new])
    remarks = first_remarks(new_state("norm=layer", *valid))
    text = (
        f"data.valid: {known} of 24 pairs are in the training set, too, so validation BLEU and loss"
        " measure memory; expected pairs that are not trained on"
    )
    assert remarks == ([text] if is_reported else [])


# -- test sets of probes ---


def test_test_sets_that_the_corpus_does_not_have_are_reported(new_state: NewState) -> None:
    """The default names a set that few corpora have; what somebody asks for has to be there."""
    probe = "norm=layer", "probe.kinds=[length]"
    assert first_remarks(new_state(*probe)) == []
    assert first_remarks(new_state(*probe, "probe.test_sets=[valid]")) == []
    assert first_remarks(new_state(*probe, "probe.test_sets=[tset,valid]")) == [
        "probe.test_sets: the corpus has no split tset; expected one of train, valid, test; did you"
        " mean test?"
    ]


# -- settings without effect ---


def test_a_run_reports_what_was_asked_for_in_vain(
    train_command: TrainCommand, toy: list[str]
) -> None:
    """Also where it is the default; what is not asked for is not mentioned."""
    quick = *toy, "cell=gru", "trainer.max_updates=2", "optimizer.warmup_updates=0"
    remark = "norm.cell=output: has no effect here, only with cell.kind=lstm"
    done = train_command(*quick, "norm.cell=output")
    assert (done.code, done.out.count(remark)) == (0, 1)
    done = train_command(*quick)
    assert (done.code, done.out.count("has no effect")) == (0, 0)


def test_control_characters_of_a_setting_are_shown_by_their_codes(new_state: NewState) -> None:
    state = new_state("norm=layer")
    state.config.probe.test_sets = ["a\x1b]0;b"]
    (remark,) = first_remarks(state)
    assert "no split a\\x1b]0;b;" in remark
