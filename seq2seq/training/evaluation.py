"""What a trained model is worth: teacher-forced loss, scored translations, and the figures a run
ends with.
"""

from contextlib import nullcontext
from dataclasses import replace

import torch

from ..config import Config, Metric
from ..data.batches import BatchSampler
from ..data.dataset import ParallelDataset, Prepared, batches
from ..data.tokenizer import Tokenizers
from ..device import autocast
from ..model import Translator
from ..rnn.config import NormKind
from ..rnn.recalibration import batch_statistics, recalibration
from ..runs.checkpoint import (
    average_weights,
    group,
    load_checkpoint,
    load_weights,
    prefixed,
    save_checkpoint,
)
from ..runs.folder import Run
from ..translation.likelihood import mean_nll
from ..translation.lines import translate_lines
from ..translation.scores import Scores, score

EVALUATION_TOKENS = 4096
"""Target tokens a batch where nothing is learnt and batches don't matter."""


def training_batches(dataset: ParallelDataset, config: Config) -> BatchSampler:
    """Batches of the kind that are trained on."""
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
    model: Translator,
    dataset: ParallelDataset,
    config: Config,
    device: torch.device,
    by_batch: bool = False,
) -> float:
    """Mean negative log-likelihood of a target token, in nats, in the model's present mode.

    by_batch: in the training's batches, batch norm normalising by each batch's own statistics, not
    the stored ones.
    """
    sampler = (
        training_batches(dataset, config)
        if by_batch
        else BatchSampler(
            dataset.src_lengths, dataset.tgt_lengths, batch_tokens=EVALUATION_TOKENS, shuffle=False
        )
    )
    with batch_statistics(model) if by_batch else nullcontext():
        return mean_nll(model, batches(dataset, sampler), config, device)


def validation_bleu(
    model: Translator, tokenizers: Tokenizers, dataset: ParallelDataset, config: Config
) -> tuple[Scores, list[str]]:
    """Scores of greedy translations of the validation set (or its first sentences), and these."""
    count = config.trainer.validate_sentences
    src, tgt = dataset.source_lines()[:count], dataset.target_lines()[:count]
    greedy = replace(config.decode, beam_size=1)
    found = translate_lines(model, tokenizers, src, greedy, precision=config.trainer.precision)
    texts = [best[0].text for best in found]
    return score(texts, tgt, config.data.target_language), texts


@torch.no_grad()
def recalibrate(
    model: Translator, dataset: ParallelDataset, config: Config, device: torch.device
) -> None:
    """One pass over the training data that sets batch norm's statistics to those of the weights as
    they are now.
    """
    sampler = training_batches(dataset, config)
    model.eval()
    with recalibration(model), autocast(device, config.trainer.precision):
        for number, batch in enumerate(batches(dataset, sampler)):
            if number == config.trainer.recalibrate_batches:
                break
            moved = batch.to(device)
            model(moved.src, moved.src_lengths, moved.tgt, moved.tgt_lengths)


def use_best(
    run: Run, config: Config, prepared: Prepared, model: Translator, device: torch.device
) -> None:
    """Put the final weights into the model and into checkpoint 'best': averaged where that is
    better, recalibrated.
    """
    best = run.checkpoint("best")
    tensors, state = load_checkpoint(best)
    load_weights(model, group(tensors, "model"), best)
    model.eval()
    valid = prepared.split("valid")
    averaged = sorted(run.checkpoints.glob("update-*"))
    names = [path.stem for path in averaged]
    if (
        len(averaged) > 1 and state.get("averaged") != names
    ):  # else a process that was stopped has done it
        load_weights(model, average_weights(averaged), averaged[-1])
        if config.trainer.best_metric is Metric.bleu:
            figure = validation_bleu(model, prepared.tokenizers, valid, config)[0].bleu
        else:
            figure = -teacher_forced_loss(model, valid, config, device)
        if figure >= state["progress"]["best"]:
            state["averaged"], state["progress"]["best"] = names, figure
        else:
            load_weights(model, group(tensors, "model"), best)
    if config.norm.kind is NormKind.batch and config.trainer.recalibrate:
        recalibrate(model, prepared.split("train"), config, device)
        state["recalibrated"] = True
    save_checkpoint(best, prefixed(model.state_dict(), "model"), state)
