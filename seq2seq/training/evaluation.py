"""Loss and BLEU of a model, its final weights, and the numbers at the end of a run."""

import math
import sys
from contextlib import nullcontext, suppress
from dataclasses import replace
from itertools import islice
from typing import Any

import torch

from ..config import Config, Metric
from ..data.batches import BatchSampler
from ..data.dataset import ParallelDataset
from ..device import autocast
from ..errors import NotFiniteError
from ..model import Translator
from ..probes import Subject
from ..rnn import NormKind, TooFewRows, batch_statistics, recalibrating
from ..runs.checkpoint import (
    average_weights,
    group,
    load_checkpoint,
    load_weights,
    prefixed,
    read_state,
    save_checkpoint,
)
from ..runs.folder import Run
from ..shown import counted
from ..stored import naming_damage
from ..translation.likelihood import mean_nll
from ..translation.scores import Scores, score, short_remark, tokenized_remark

EVALUATION_TOKENS = 4096
"""Target tokens in a batch where nothing is learned and the composition does not matter."""


def training_batches(dataset: ParallelDataset, config: Config) -> BatchSampler:
    """Return a sampler of batches as the configuration trains on."""
    data = config.data
    return BatchSampler(
        dataset.src_lengths,
        dataset.tgt_lengths,
        batch_tokens=data.batch_tokens,
        batch_sentences=data.batch_sentences,
        seed=config.seed,
        bucket_batches=data.bucket_batches,
    )


def teacher_forced_loss(
    model: Translator, dataset: ParallelDataset, config: Config, by_batch: bool = False
) -> float:
    """Return the mean negative log-likelihood of a target token, in nats.

    The model stays in its present mode. With `by_batch` the batches are those of training, and
    batch norm normalises by each batch's own statistics instead of the stored ones.
    """
    if by_batch:
        sampler = training_batches(dataset, config)
    else:
        lengths = (dataset.src_lengths, dataset.tgt_lengths)
        sampler = BatchSampler(*lengths, batch_tokens=EVALUATION_TOKENS, shuffle=False)
    with batch_statistics(model) if by_batch else nullcontext():
        r_drop = config.trainer.r_drop if by_batch else 0.0  # so many rows as in training
        return mean_nll(model, dataset.batches(sampler), config, r_drop)


def validation_bleu(subject: Subject, valid: ParallelDataset) -> tuple[Scores, list[str]]:
    """Translate the first `validate_sentences` of the validation set; return scores and texts.

    Greedy: a beam of 1.
    """
    config = subject.config
    count = config.trainer.validate_sentences
    src, tgt = valid.lines("source")[:count], valid.lines("target")[:count]
    found = subject.session(replace(config.decode, beam_size=1)).translate(src)
    texts = [best[0].text for best in found]
    return score(texts, tgt, config.data.splits_for_bleu), texts


@torch.no_grad()
def recalibrate(model: Translator, dataset: ParallelDataset, config: Config) -> None:
    """Set batch norm's stored statistics to those of the present weights over training data.

    One teacher-forced pass over at most `recalibrate_batches` batches, each as many rows as in
    training. They stay as they are where all of these are smaller than norm.min_rows. Leaves the
    model in eval mode.
    """
    sampler = training_batches(dataset, config)
    model.eval()
    with (
        suppress(TooFewRows),  # as in training, whose start says so
        recalibrating(model),
        autocast(model.device, config.trainer.precision),
    ):
        for batch in islice(dataset.batches(sampler), config.trainer.recalibrate_batches):
            model(*batch.to(model.device).inputs, r_drop=config.trainer.r_drop)


def use_best(run: Run, subject: Subject) -> str:
    """Put the final weights into the model, in eval mode, and into checkpoint 'best'.

    These are the best validation's weights, or the average of the last or the best ones if that
    scores at least as well; the returned remark says so. Batch norm's statistics are then
    recalibrated if so configured.
    """
    model, config, best = subject.model, subject.config, run.checkpoint("best")
    tensors, state = load_checkpoint(best)
    load_weights(model, group(tensors, "model"), best)
    model.eval()
    averaged = sorted(run.checkpoints.glob("update-*"))
    names = [path.stem for path in averaged]
    done_before = state.get("averaged") == names  # by a process that was stopped later
    if len(averaged) > 1 and not done_before:
        load_weights(model, average_weights(averaged), averaged[-1])
        with naming_damage(best):
            is_better = take_standing(subject, state["progress"])
        if is_better:
            state["averaged"], state["recalibrated"] = names, False
        else:
            load_weights(model, group(tensors, "model"), best)
    due = config.norm.kind is NormKind.batch and config.trainer.recalibrate
    if due and not state.get("recalibrated"):  # by a process that was stopped later, too
        recalibrate(model, subject.prepared.split("train"), config)
        state["recalibrated"] = True
    save_checkpoint(best, prefixed(model.state_dict(), "model"), state)
    return average_remark(config, len(averaged), state.get("averaged") == names)


def recalibration_remark(run: Run, valid_loss: float) -> str:
    """Return the final model's validation loss before and after its statistics were recalibrated.

    Empty where they were not.
    """
    state = read_state(run.checkpoint("best"))
    if not state.get("recalibrated"):
        return ""
    before = -[state["progress"]["best"], *state["progress"]["best_ties"]][-1]
    return (
        "trainer.recalibrate=true: batch norm's statistics were measured again, of the final"
        f" model; validation loss {before:.3f} before, {valid_loss:.3f} after"
    )


def take_standing(subject: Subject, progress: dict[str, Any]) -> bool:
    """Return whether the present weights are at least as good as the best; note their standing."""
    try:
        standing = validation_standing(subject)
    except NotFiniteError:
        return False
    if standing < [progress["best"], *progress.get("best_ties", [])]:
        return False
    progress["best"], *progress["best_ties"] = standing
    return True


def average_remark(config: Config, count: int, is_used: bool) -> str:
    """Return how many checkpoints were averaged, and why not more; empty if none was to be."""
    trainer = config.trainer
    if not (asked := trainer.average_best or trainer.average_last):
        return ""
    key = f"trainer.average_{'best' if trainer.average_best else 'last'}={asked}"
    few = f" (of {counted(count, 'validation')} in all)" if count < asked else ""
    if count < 2:
        return f"{key}: no average{few}"
    end = "it is the final model" if is_used else "the best checkpoint alone is better, and is kept"
    return f"{key}: the average is of {count} checkpoints{few}; {end}"


def validation_standing(subject: Subject) -> list[float]:
    """Return the numbers of the present weights that decide which are best (see `standing_of`)."""
    config, valid = subject.config, subject.prepared.split("valid")
    loss = teacher_forced_loss(subject.model, valid, config)
    if config.trainer.best_metric is Metric.loss:
        return standing_of(None, loss, config)
    scores, _ = validation_bleu(subject, valid)
    return standing_of(scores, loss, config)


def standing_of(scores: Scores | None, loss: float, config: Config) -> list[float]:
    """Return what decides which of two models is better: compare the lists, higher is better.

    Best checkpoint, patience, plateau and averaging all use this order. The first number is BLEU;
    where it is equal, chrF decides, then the negated loss. A BLEU of smoothing alone, without one
    right sequence of four tokens, counts as 0: untrained models have one of 0.03 by chance. With
    `trainer.best_metric=loss` the negated loss decides alone. A loss that is not finite is the
    worst: as NaN it would never be beaten.
    """
    negated = -loss if math.isfinite(loss) else -sys.float_info.max
    if scores is None or config.trainer.best_metric is Metric.loss:
        return [negated]
    return [0.0 if scores.is_smoothing else scores.bleu, scores.chrf, negated]


def score_remarks(config: Config, valid: ParallelDataset) -> dict[str, str]:
    """Return what a reader of the validation's scores has to know; empty texts for nothing."""
    references = valid.lines("target")[: config.trainer.validate_sentences]
    return {
        "short": short_remark(references, config.data.splits_for_bleu),
        "tokenized": tokenized_remark("validation references", references),
    }
