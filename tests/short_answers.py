"""Runs with given scores, and the short answer about them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from synthetic import SEEDS, curve, record
from typed import present

from seq2seq.report.answers import overview
from seq2seq.report.groups import Group
from seq2seq.report.norms import norm_rows
from seq2seq.runs.records import RunRecord


def scored_runs(
    scores: Mapping[str, Sequence[float]],
    split: str = "test",
    rates: Mapping[str, float] | None = None,
) -> Iterator[RunRecord]:
    """Yield runs with these scores of each norm, one for each seed."""
    for norm, values in scores.items():
        for seed, bleu in zip(SEEDS, values, strict=False):
            run = record(norm, seed, metrics=curve((rates or {}).get(norm, 0.05)))
            results = present(run.results)
            setattr(results, split, replace(getattr(results, split), bleu=bleu))
            if split == "valid":
                results.test = None
            yield run


def short_answer(found: Group) -> tuple[str, dict[str, dict[str, str]]]:
    """Return the sentences of the answer about a group, and its table's rows by norm."""
    (answer,) = overview([found], [norm_rows(found)])
    rows = answer.table.rows if answer.table else []
    return " ".join(answer.sentences), {next(iter(row.values())): row for row in rows}
