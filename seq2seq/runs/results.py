"""results.json: the final numbers of a run."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..files import write_text
from ..stored import damaged
from .jsonl import record_of
from .typed import check_count

OPTIONAL = ("train_sha256", "valid_loss_batch_statistics", "test", "commit")
"""Left out of the file where a run does not have them."""

COUNTS = (
    *(
        "parameters",
        "target_pieces",
        "update",
        "tokens",
        "skipped",
        "skipped_in_row",
        "seconds",
        "wall_seconds",
    ),
    *("best_update", "bad_validations", "plateau_scale", "tokens_per_second", "threads"),
)
"""Numbers that are finite and not negative. The loss of a run that diverged is neither."""


@dataclass(kw_only=True)
class Score:
    """Corpus scores of a run's translations of one split."""

    bleu: float
    chrf: float
    bleu_signature: str
    """sacreBLEU's."""
    chrf_signature: str
    source_sha256: str | None = None
    """Checksum of the source text."""
    reference_sha256: str | None = None


@dataclass(kw_only=True)
class Results:
    """The numbers that a run ends with, in the order of the file."""

    norm: str | None = None
    cell: str | None = None
    corpus: str | None = None
    seed: int | None = None
    train_sha256: str | None = None
    """Start of a checksum of the training text; None in older runs."""
    parameters: int
    target_pieces: int | None = None
    """Size of the target's vocabulary; None in older runs."""
    update: int
    tokens: int | None = None
    """Target tokens trained on."""
    skipped: int | None = None
    """Updates that were skipped, as loss or gradient was not finite."""
    skipped_in_row: int | None = None
    """The last of them."""
    seconds: float | None = None
    """Time in updates alone."""
    wall_seconds: float
    """Time since the start, with validation."""
    best: float | None = None
    """The best validation's BLEU, or its negated loss."""
    best_ties: list[float] | None = None
    """Its chrF and negated loss, which decide where BLEU does not; none where the loss decides."""
    best_update: int | None = None
    bad_validations: int | None = None
    plateau_scale: float | None = None
    tokens_per_second: float
    valid_loss: float
    """Of the weights that are scored, in nats a target token."""
    valid_loss_batch_statistics: float | None = None
    """The same with each batch's own statistics; batch norm alone."""
    valid: Score
    test: Score | None = None
    decode: dict[str, Any] | None = None
    """Settings of the search; older runs have beam_size and length_penalty alone."""
    device: str
    processor: str | None = None
    threads: int
    versions: dict[str, str]
    commit: str | None = None
    """Of the code, where it was trained from its git repository."""

    def as_json(self) -> dict[str, Any]:
        """Return the content of results.json."""
        return {k: v for k, v in asdict(self).items() if v is not None or k not in OPTIONAL}

    def write(self, file: Path) -> dict[str, Any]:
        """Write results.json and return its content."""
        content = self.as_json()
        write_text(file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        return content


def results_of(content: dict[str, Any], file: Path) -> Results:
    """Return the results of a results.json's content; ValueError names what is missing."""
    if not isinstance(content, dict):
        raise damaged(file, "expected an object of JSON")
    scores = {
        split: record_of(Score, content[split], file)
        for split in ("valid", "test")
        if content.get(split) is not None
    }
    found = record_of(Results, content | scores, file)
    try:
        for name in COUNTS:
            check_count(getattr(found, name), name)
    except ValueError as error:
        raise damaged(file, error) from error
    return found
