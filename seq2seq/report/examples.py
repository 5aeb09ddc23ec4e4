"""Worked translations: what the runs of a comparison made of the same sentences, and where they
looked.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..figures import attention_figure, rendered
from ..runs.records import Group, RunRecord
from ..translation.attention import attention_map
from .experiments.convergence import at_best_rate
from .norms import hypotheses, test_pairs

PLACES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Of the sentences shown, among all of the test set by length: no one picks them."""
MAPS = 2
"""Of so many sentences the attention is drawn."""


@dataclass
class Output:
    """One run's translation; `attention` is a PNG in base64, empty where there is none."""

    norm: str
    text: str
    attention: str = ""


@dataclass
class Example:
    """A test sentence and what became of it."""

    source: str
    reference: str
    outputs: list[Output]


def worked_examples(found: Sequence[Group]) -> tuple[list[Example], str]:
    """Sentences by their place in the order of lengths, from the first comparison of norms; or why
    there are none.
    """
    group = next((g for g in found if g.compares_norms and g.runs), None)
    if group is None:
        return [], ""
    runs = [at_best_rate(group, norm)[0] for norm in group.norms]
    src, ref = test_pairs(runs[0])
    texts = [hypotheses(run) for run in runs]
    if lacking := _lacking(src, texts, [run.name for run in runs]):
        return [], f"{group.corpus}: {lacking}, so no worked translations are shown"
    order = sorted(range(len(src)), key=lambda i: (len(src[i]), i))
    chosen = [order[int(place * len(order))] for place in PLACES]
    examples = [
        Example(
            src[i], ref[i], [Output(r.norm, text[i]) for r, text in zip(runs, texts, strict=True)]
        )
        for i in chosen
    ]
    for number, run in enumerate(runs):
        _draw_attention(run, [(e.source, e.outputs[number]) for e in examples[1 : 1 + MAPS]])
    return examples, ""


def _lacking(src: Sequence[str], texts: Sequence[Sequence[str]], names: Sequence[str]) -> str:
    """What it would take to show translations side by side; empty where all is here."""
    if not src:
        return "the test set that its runs were scored on isn't here"
    odd = [name for name, text in zip(names, texts, strict=True) if len(text) != len(src)]
    return (
        f"translations/test.txt of {' and '.join(odd)} is missing or has not one line a sentence"
        if odd
        else ""
    )


@torch.no_grad()
def _draw_attention(run: RunRecord, pairs: Sequence[tuple[str, Output]]) -> None:
    """Fill in the outputs' attention maps, where the run still has its model and that can be had on
    this machine.
    """
    try:
        model, tokenizers = run.run.translator(torch.device("cpu")), run.run.tokenizers()
    except (ValueError, OSError, RuntimeError):
        return
    for source, output in pairs:
        found = attention_map(model, tokenizers, source, output.text)
        if found is not None:
            weights, src_pieces, tgt_pieces = found
            figure = attention_figure(weights.numpy(), src_pieces, tgt_pieces)
            output.attention = base64.b64encode(rendered(figure, "png", dpi=96)).decode()
