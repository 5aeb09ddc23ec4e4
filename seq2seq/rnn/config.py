"""Settings of the normalisation in a recurrent cell."""

from dataclasses import dataclass
from enum import Enum


class NormKind(Enum):
    """What N(v) divides by, and what it averages over (DESIGN of each:
    `seq2seq/rnn/reference.py`).
    """

    none = "none"
    batch = "batch"
    layer = "layer"
    rms = "rms"


class CellNorm(Enum):
    """Where the norm of the LSTM's cell state acts: on the output only, also on what is carried on,
    or nowhere.
    """

    output = "output"
    carried = "carried"
    none = "none"


class Terms(Enum):
    """Whether input and recurrent summed inputs are normalised apart or as one sum."""

    separate = "separate"
    joint = "joint"


class NormGroup(Enum):
    """Whether a row is normalised as one vector or each gate's H features apart."""

    vector = "vector"
    gate = "gate"


class Statistics(Enum):
    """Which sets of statistics batch norm keeps."""

    per_step = "per_step"
    sequence_input = "sequence_input"
    shared = "shared"


@dataclass
class NormConfig:
    """Normalisation inside the recurrent cell. `None` means the default of the kind or of the
    cell.
    """

    kind: NormKind = NormKind.layer
    eps: float = 1e-5
    gain: float | None = None
    """Initial gain; None: 1 for layer and rms, 0.1 for batch."""
    cell: CellNorm = CellNorm.output
    terms: Terms | None = None
    """None: separate for LSTM and GRU, joint for RNN."""
    group: NormGroup = NormGroup.vector
    statistics: Statistics = Statistics.per_step
    momentum: float = 0.1
    """Weight of the newest batch in the running averages of batch norm."""
    max_steps: int = 512
    """Time steps for which batch norm has room to keep statistics."""
    min_rows: int = 2
    """A training step with fewer living rows than this uses the running statistics."""


DEFAULT_GAIN = {NormKind.batch: 0.1, NormKind.layer: 1.0, NormKind.rms: 1.0}


def norm_config(norm: str | NormConfig) -> NormConfig:
    """The norm's settings from its name or from themselves, checked."""
    if isinstance(norm, str) and norm in NormKind.__members__:
        return NormConfig(kind=NormKind[norm])
    if not isinstance(norm, NormConfig):
        raise ValueError(
            f"norm={norm!r}: expected one of {', '.join(NormKind.__members__)} or a NormConfig"
        )
    if norm.eps <= 0:
        raise ValueError(f"norm.eps={norm.eps}: expected more than 0")
    if norm.kind is NormKind.batch:
        if not 0 <= norm.momentum <= 1:
            raise ValueError(f"norm.momentum={norm.momentum}: expected a weight from 0 to 1")
        if norm.group is NormGroup.gate:
            raise ValueError(
                "norm.group=gate: batch norm treats every feature apart already; expected"
                " group=vector"
            )
        if norm.min_rows < 2:
            raise ValueError(
                f"norm.min_rows={norm.min_rows}: a variance over rows needs at least 2"
            )
        if norm.max_steps < 1:
            raise ValueError(f"norm.max_steps={norm.max_steps}: expected at least 1")
        if norm.statistics is Statistics.sequence_input and norm.terms is Terms.joint:
            raise ValueError(
                "norm.terms=joint: norm.statistics=sequence_input normalises the input term of all"
                " steps at once; expected norm.terms=separate"
            )
    return norm
