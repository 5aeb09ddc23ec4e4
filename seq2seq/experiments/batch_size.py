"""What small batches do to each norm, at equal numbers of sentences seen."""

from ..charts import Chart, Panel
from ..records import Group
from .lines import mean_by
from .verdict import Figures, Finding, Verdict, difference, minus, needs, valid_loss

SMALL, LARGE = 4, 64


def verdicts(group: Group, claim: str) -> list[Verdict]:
    """Batch norm has to lose ground on no norm between 64 sentences and 4; layer norm less than half as much."""
    sizes = group.values("data.batch_sentences")
    missing = needs(group, "none", "batch", "layer")
    if not missing and not {SMALL, LARGE} <= set(sizes):
        missing = f"needs runs with data.batch_sentences={SMALL} and {LARGE}"
    if missing:
        return [Verdict(claim, missing=missing)]
    lost = {norm: minus(_behind(group, norm, SMALL), _behind(group, norm, LARGE)) for norm in ("batch", "layer")}
    unit = "nats/token"
    return [Verdict(claim, [
        Finding(f"from {LARGE} sentences a batch to {SMALL}, batch loses ground on none", unit,
                list(lost["batch"].values())),
        Finding("layer loses less than half as much", unit, difference(lost["batch"], lost["layer"], scale=0.5)),
        *(Finding(f"at {size} sentences a batch, {norm} ends with a lower loss than none", unit,
                  [-value for value in _behind(group, norm, size).values()], decides=False)
          for norm in ("batch", "layer") for size in sorted(sizes)),
    ])]


def _behind(group: Group, norm: str, size: int) -> Figures:
    """seed -> how much higher a norm's validation loss is than no norm's, in batches of this size."""
    return minus(group.paired(valid_loss, norm=norm, data__batch_sentences=size),
                 group.paired(valid_loss, norm="none", data__batch_sentences=size))


def charts(group: Group) -> list[Chart]:
    """Final loss and BLEU by size of batch."""
    x = "sentences a batch"
    key = "data.batch_sentences"
    panels = [Panel("loss", x, "validation loss (nats/token)", mean_by(group, key, valid_loss), log_x=True),
              Panel("BLEU", x, "test BLEU", mean_by(group, key, lambda run: run.scores.get("bleu")), log_x=True)]
    return [Chart("by_batch_size", "Final quality by size of batch", "Mean over seeds and their range; all runs see as "
                  "many sentences.", panels)]
