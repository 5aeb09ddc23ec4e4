"""What a run reports at its start: settings that will not do what they are for."""

import numpy as np
from numpy.typing import NDArray

from ..config import ProbeConfig
from ..config.choices import expected_one_of
from ..data.corpora import splits
from ..rnn import NormKind, Statistics
from ..runs.asked import without_effect_remarks
from ..shown import are, counted, escaped
from .state import TrainingState


def first_remarks(state: TrainingState) -> list[str]:
    """Return a line about each thing that a reader of the run's results has to know."""
    remarks = (warm_up_remark, few_rows_remark, known_valid_remark, missing_sets_remark)
    found = [remark(state) for remark in remarks]
    asked = state.run.asked or ()
    found = [*without_effect_remarks(state.config, asked), *filter(None, found)]
    return list(map(escaped, found))  # settings may be those of a run that one was given


def warm_up_remark(state: TrainingState) -> str:
    """Return a line where the training ends before the learning rate has risen."""
    warm_up, total = state.config.optimizer.warmup_updates, state.total_updates()
    if total is None or total >= warm_up:
        return ""
    return (
        f"optimizer.warmup_updates={warm_up}: the training has about {counted(total, 'update')}, so"
        f" its learning rate rises to {total / warm_up:.2g} of optimizer.lr and never reaches it"
    )


def few_rows_remark(state: TrainingState) -> str:
    """Return a line where most batches are too small for batch norm's own statistics."""
    norm, data = state.config.norm, state.config.data
    if norm.kind is not NormKind.batch:
        return ""
    rows = most_rows(state)
    share, most = float((rows < norm.min_rows).mean()), int(rows.max())
    if share <= 0.5:
        return ""
    batches = "every batch has" if share == 1 else f"{int(100 * share)}% of the batches have"
    size = "batch_tokens" if data.batch_sentences is None else "batch_sentences"
    smaller = f", or norm.min_rows={most} or less" if 2 <= most < norm.min_rows else ""
    what = "no recurrent term" if norm.statistics is Statistics.sequence_input else "no step"
    return (
        f"norm.min_rows={norm.min_rows}: {batches} fewer rows (at most {most}), so batch norm"
        f" normalises {what} of these by its own statistics; try a larger data.{size}{smaller}"
    )


def known_valid_remark(state: TrainingState) -> str:
    """Return a line where most validation pairs are training pairs, too."""
    valid = state.prepared.manifest.splits["valid"]
    if 2 * valid.in_train <= valid.kept:
        return ""
    return (
        f"data.valid: {valid.in_train:,} of {counted(valid.kept, 'pair')} {are(valid.in_train)} in"
        " the training set, too, so validation BLEU and loss measure memory; expected pairs that"
        " are not trained on"
    )


def missing_sets_remark(state: TrainingState) -> str:
    """Return a line where a probe was given test sets that the corpus does not have."""
    asked, known = state.config.probe.test_sets, splits(state.config.data)
    missing = [name for name in asked if name not in known]
    if not missing or asked == ProbeConfig().test_sets:
        return ""
    expected = expected_one_of(missing[0], list(known), "its settings name")
    return f"probe.test_sets: the corpus has no split {', '.join(missing)}; {expected}"


def most_rows(state: TrainingState) -> NDArray[np.int64]:
    """Return the number of rows that a step of each batch of the epoch has at most.

    These are the sentences of the batch that this process computes, each twice with R-Drop. With
    norm.sync they are those of all processes.
    """
    config = state.config
    sentences = state.sampler.sizes(1 if config.norm.sync else state.processes.size)
    return sentences * 2 if config.trainer.r_drop else sentences
