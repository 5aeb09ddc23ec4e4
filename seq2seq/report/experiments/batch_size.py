"""What small batches do to each norm, with the same number of sentences seen."""

from dataclasses import replace
from itertools import product
from statistics import fmean

from ..charts import Chart, Panel
from ..groups import RATE, Design, Group, by_seed, valid_loss
from .base import Experiment, Statement
from .lines import mean_by
from .verdict import Verdict, higher, less_than_half, lower, minus, needs

KEY = "data.batch_sentences"
NEEDS = ("none", "batch", "layer")
SMALL, LARGE = 4, 64
LEARNED = 10.0
"""BLEU that every norm has to reach in the large batches: otherwise there is nothing to lose."""
STATEMENT = Statement(
    "Batch norm needs large batches; layer norm does not.",
    "Ba, Kiros & Hinton 2016, abstract (“the effect of batch normalization is dependent on the"
    " mini-batch size”) and section 6.6 (batches of 128 and 4).",
    "From 64 sentences a batch to 4, batch norm does not fall behind no norm, or layer norm falls"
    " behind by more than half as much. There is no verdict if one of them has not learned to"
    " translate with batches of 64 (10 BLEU).",
)


def verdicts(group: Group) -> list[Verdict]:
    """Compare how far each norm falls behind no norm from large batches to small ones."""
    if missing := _unfit(group):
        return [Verdict(STATEMENT.claim, missing=missing)]
    none, batch, layer = group.usual(*NEEDS)
    others, sizes = [norm for norm in group.norms if norm != none], sizes_of(group)
    losses = {
        (norm, size): by_seed(group.at_best_rate({"norm": norm, KEY: size}), valid_loss)
        for norm, size in product(group.norms, sizes)
    }
    small, large = (
        {norm: minus(losses[norm, size], losses[none, size]) for norm in others}
        for size in (SMALL, LARGE)
    )
    lost = {norm: minus(small[norm], large[norm]) for norm in others}
    unit, where = "nats/token", f"from {LARGE} sentences a batch to {SMALL},"
    breaks, *more = (
        higher(f"{where} {n} falls behind {none}", unit, small[n], large[n], decides=n == batch)
        for n in group.variants("batch")
    )
    half = f"{layer} falls behind {none} by less than half as much as {batch}"
    findings = [
        breaks,
        less_than_half(half, lost[layer], lost[batch], breaks),
        *more,
        lower(f"{where} {layer} catches up with {none}", unit, small[layer], large[layer]),
    ]
    for norm, size in product(others, sizes):
        ends = f"at {size} sentences a batch, {norm} ends with a lower loss than {none}"
        findings.append(lower(ends, unit, losses[norm, size], losses[none, size]))
    return [Verdict(STATEMENT.claim, findings)]


def sizes_of(group: Group) -> list[int]:
    """Return the numbers of sentences a batch; batches of so many tokens have none."""
    return sorted(size for size in group.values(KEY) if size is not None)


def _unfit(group: Group) -> str:
    """Return what is missing for a verdict; empty where nothing is."""
    norms = group.usual(*NEEDS)
    absent = [
        f"norm={kind} {KEY}={size}"
        for kind, norm in zip(NEEDS, norms, strict=True)
        for size in (SMALL, LARGE)
        if not group.where({"norm": norm, KEY: size})
    ]
    if absent:
        return needs(absent)
    reached = {
        norm: fmean(map(group.bleu, group.at_best_rate({"norm": norm, KEY: LARGE})))
        for norm in norms
    }
    worst = min(norms, key=lambda norm: reached[norm])
    if reached[worst] >= LEARNED:
        return ""
    return (
        f"needs longer training: at {LARGE} sentences a batch {worst} ends with"
        f" {reached[worst]:.1f} BLEU; below {LEARNED:g} BLEU there is no ground to lose"
    )


def charts(group: Group) -> list[Chart]:
    """Return the final loss and BLEU by batch size."""
    x, sizes, rates = "sentences a batch", sizes_of(group), sorted(group.values(RATE))
    group = replace(group, runs=[run for run in group.runs if run.value_of(KEY) is not None])
    bleu, loss = mean_by(group, KEY, group.bleu), mean_by(group, KEY, valid_loss)
    counts = {
        size: fmean(r.results.update for r in group.where({KEY: size}) if r.results)
        for size in [*sizes[:1], *sizes[-1:]]
    }
    shown = " and ".join(f"{count:,.0f} of {size} sentences" for size, count in counts.items())
    caption = (
        "Mean over seeds and their range. All runs see the same number of sentences: the larger the"
        f" batch, the fewer the updates{f': {shown}' if shown else ''}."
    )
    if len(rates) > 1:
        caption += f" The learning rate goes from {rates[0]:g} to {rates[-1]:g}."
    panels = [
        Panel("BLEU", x, f"{group.split} BLEU", bleu, log_x=True),
        Panel("loss", x, "validation loss (nats/token)", loss, log_x=True),
    ]
    return [Chart("by_batch_size", "Quality by batch size", caption, panels)]


EXPERIMENT = Experiment(
    "batch_size",
    STATEMENT,
    Design(("norm.", KEY, RATE), derived=("optimizer.warmup_updates",)),
    NEEDS,
    verdicts,
    charts,
)
