"""Worked translations: a few sentences of the test set as each norm's run translates them."""

from collections.abc import Sequence

from ..runs.examples import WorkedExample, read_examples
from .groups import Group

Example = dict[str, WorkedExample]
"""Norm -> its run's translation of one test sentence."""


def worked_examples(found: Sequence[Group]) -> tuple[list[Example], str]:
    """Return the examples of the first group that compares norms, or why there are none."""
    group = next((g for g in found if g.design.compares_norms and g.runs), None)
    if group is None:
        return [], ""
    runs = [group.at_best_rate({"norm": norm})[0] for norm in group.norms]
    stored = [read_examples(run.run.translations) for run in runs]
    reason = ""
    if absent := [run.name for run, examples in zip(runs, stored, strict=True) if not examples]:
        reason = (
            f"translations/examples.json is missing in {', '.join(absent)};"
            " runs of older versions have no p-values either"
        )
    elif len({tuple(e.source for e in examples) for examples in stored}) > 1:
        reason = "the runs have stored different sentences"
    if reason:
        return [], f"{group.corpus}: no worked translations are shown: {reason}"
    return [dict(zip(group.norms, same, strict=True)) for same in zip(*stored, strict=True)], ""
