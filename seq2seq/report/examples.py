"""Worked translations: a few sentences of the test set as each norm's run translates them."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..figures import attention_figure, rendered
from ..runs.examples import WorkedExample, read_examples
from .groups import Group


@dataclass
class Output:
    """One run's translation."""

    norm: str
    text: str
    attention: str = ""
    """Its attention map as a PNG in base64; empty where there is none."""


@dataclass
class Example:
    """A test sentence and its translations."""

    source: str
    reference: str
    outputs: list[Output]


def worked_examples(found: Sequence[Group]) -> tuple[list[Example], str]:
    """Return the examples of the first group that compares norms, or why there are none."""
    group = next((g for g in found if g.compares_norms and g.runs), None)
    if group is None:
        return [], ""
    runs = [group.at_best_rate({"norm": norm})[0] for norm in group.norms]
    stored = [read_examples(run.run.translations) for run in runs]
    if absent := [run.name for run, examples in zip(runs, stored, strict=True) if not examples]:
        reason = f"translations/examples.json is missing in {' and '.join(absent)}"
        return [], f"{group.corpus}: no worked translations are shown: {reason}"
    if len({tuple(e.source for e in examples) for examples in stored}) > 1:
        reason = "the runs have stored different sentences"
        return [], f"{group.corpus}: no worked translations are shown: {reason}"
    return [
        Example(
            same[0].source,
            same[0].reference,
            [
                Output(run.norm, e.translation, attention_map(e))
                for run, e in zip(runs, same, strict=True)
            ],
        )
        for same in zip(*stored, strict=True)
    ], ""


def attention_map(example: WorkedExample) -> str:
    """Return an example's attention as a PNG in base64; empty where none is stored."""
    if not example.attention:
        return ""
    weights = np.array(example.attention)
    figure = attention_figure(weights, example.source_pieces, example.target_pieces)
    return base64.b64encode(rendered(figure, "png", dpi=96)).decode()
