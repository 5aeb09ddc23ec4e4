"""The end of a run: scores, translations, worked examples and results.json."""

import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch

from .. import __version__
from ..data.corpora import read_split, scored_text, splits
from ..data.shortlist import shortlist_for
from ..device import processor
from ..model import count_parameters
from ..probes import Subject
from ..rnn import NormKind
from ..runs.examples import WITH_ATTENTION, WorkedExample, chosen, write_examples, write_lines
from ..runs.folder import Run
from ..runs.results import Results, Score
from ..translation.attention import attention_map
from ..translation.scores import score
from .commit import code_commit
from .evaluation import teacher_forced_loss

VERSIONS = ("torch", "sentencepiece", "sacrebleu", "hydra-core", "numpy")
"""Packages whose versions a run stores."""
DIGITS = 4
"""Decimals of a stored attention weight."""


def score_split(run: Run, subject: Subject, split: str) -> Score:
    """Translate a split with the configured search, store the translations and return their scores.

    For the test set the text and the worked examples are stored too.
    """
    config = subject.config
    src, tgt = read_split(config.data, split)
    translations = subject.session().translate(src, progress=config.trainer.progress)
    texts = [best[0].text for best in translations]
    write_lines(run.translations / f"{split}.txt", texts)
    if split == "test":
        write_lines(run.translations / "test.source.txt", src)
        write_lines(run.translations / "test.reference.txt", tgt)
        examples = worked_examples(subject, src, tgt, texts)
        write_examples(run.translations, examples)
    found = score(texts, tgt, config.data.splits_for_bleu)
    return Score(
        bleu=found.bleu,
        chrf=found.chrf,
        bleu_signature=found.bleu_signature,
        chrf_signature=found.chrf_signature,
        **scored_text(src, tgt),
    )


def worked_examples(
    subject: Subject, src: list[str], tgt: list[str], translations: list[str]
) -> list[WorkedExample]:
    """Return the sentences that a report shows, some of them with the model's attention."""
    found, model, tokenizers = [], subject.model, subject.prepared.tokenizers
    for number, i in enumerate(chosen(src)):
        example = WorkedExample(i, src[i], tgt[i], translations[i])
        if number in WITH_ATTENTION and (
            drawn := attention_map(model, tokenizers, src[i], translations[i])
        ):
            weights, example.source_pieces, example.target_pieces = drawn
            example.attention = [[round(w, DIGITS) for w in row] for row in weights.tolist()]
        found.append(example)
    return found


def finish_run(run: Run, subject: Subject, progress: dict[str, Any]) -> Results:
    """Score the final weights on valid and test; return the results of the run."""
    model, config, prepared = subject.model, subject.config, subject.prepared
    valid = prepared.split("valid")
    by_batch = None
    valid_loss = teacher_forced_loss(model, valid, config)
    if config.norm.kind is NormKind.batch:
        by_batch = teacher_forced_loss(model, valid, config, by_batch=True)
    if (shortlist := shortlist_for(config.decode, prepared)) is not None:
        shortlist.save(run.shortlist_file)  # so that the run translates without its corpus
    scores = {
        split: score_split(run, subject, split)
        for split in ("valid", *({"test"} & splits(config.data).keys()))
    }
    versions = {"seq2seq": __version__, "python": platform.python_version()}
    return Results(
        norm=config.norm.kind.value,
        cell=config.cell.kind.value,
        corpus=config.data.name,
        seed=config.seed,
        train_sha256=prepared.manifest.texts.get("train"),
        parameters=count_parameters([model]),
        target_pieces=prepared.tokenizers.target.vocab_size,
        **progress,
        tokens_per_second=progress["tokens"] / progress["seconds"],
        valid_loss=valid_loss,
        valid_loss_batch_statistics=by_batch,
        valid=scores["valid"],
        test=scores.get("test"),
        decode=asdict(config.decode),
        device=str(model.device),
        processor=processor(model.device),
        threads=torch.get_num_threads(),
        versions=versions | {name: version(name) for name in VERSIONS},
        commit=code_commit(),
    )
