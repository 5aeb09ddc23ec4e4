"""Settings of the normalisation inside a recurrent cell."""

from copy import copy
from dataclasses import dataclass, fields
from enum import Enum


class NormKind(Enum):
    """The norm N(v); `normalization.py` has the equations."""

    none = "none"
    batch = "batch"
    layer = "layer"
    rms = "rms"


class CellNorm(Enum):
    """Use of the LSTM's normalised cell state N(c_t)."""

    output = "output"
    """h_t is computed from N(c_t); c_t itself is carried to the next step."""
    carried = "carried"
    """N(c_t) is also carried to the next step."""
    carried_only = "carried_only"
    """N(c_t) is carried to the next step; h_t is computed from c_t."""
    none = "none"
    """The cell state is not normalised."""


class Terms(Enum):
    """Normalisation of W_ih x_t and W_hh h_{t-1}."""

    separate = "separate"
    """Each by itself."""
    joint = "joint"
    """Their sum, except for the GRU's n part."""
    joint_all = "joint_all"
    """Their sum, with the GRU's n part: its r then acts on the normalised sum."""


class NormGroup(Enum):
    """Features normalised together: all gates as one vector, or the H features of each gate."""

    vector = "vector"
    gate = "gate"


class Statistics(Enum):
    """Statistics that batch norm keeps."""

    per_step = "per_step"
    """Separate statistics for every time step."""
    sequence_input = "sequence_input"
    """As per_step, but one pair for W_ih x_t, over the rows of all steps together."""
    shared = "shared"
    """Batch statistics for every step, one running pair for all steps."""


DEFAULT_GAIN = {NormKind.batch: 0.1, NormKind.layer: 1.0, NormKind.rms: 1.0}
"""Cooijmans et al. 2016, section 4; Ba et al. 2016, supplement."""
LARGEST_GAIN = 1000
MOST = 1_000_000
"""The most time steps with statistics of their own, and the most rows that they may need."""
ALL_NORMS = ("kind", "eps", "gain", "cell", "cell_gain", "terms")
BATCH_NORM = ("statistics", "momentum", "max_steps", "min_rows", "sync")
MEANINGFUL = {
    NormKind.none: ("kind",),
    NormKind.batch: (*ALL_NORMS, "group", *BATCH_NORM),
    NormKind.layer: (*ALL_NORMS, "group"),
    NormKind.rms: (*ALL_NORMS, "group"),
}
"""Settings that may differ from their default. Batch norm's group has a message of its own."""


@dataclass
class NormConfig:
    """Normalisation inside a recurrent cell.

    The defaults are the papers'. Raises ValueError for a value out of range, and for a setting
    other than its default that means nothing to this kind of norm.
    """

    kind: NormKind = NormKind.layer
    eps: float = 1e-5
    """Added to the variance inside the square root."""
    gain: float | None = None
    """Initial gain; None: 1 for layer and rms, 0.1 for batch."""
    cell: CellNorm = CellNorm.output
    """LSTM only. Other cells have no cell state; they accept output and none, which are the same
    there."""
    cell_gain: float | None = None
    """LSTM only: initial gain of the cell state's norm; None: as the others."""
    terms: Terms | None = None
    """None: separate for LSTM and GRU, joint for RNN; joint_all is for the GRU."""
    group: NormGroup = NormGroup.vector
    """Layer and rms norm only."""
    statistics: Statistics = Statistics.per_step
    """Batch norm only, as are all settings below."""
    momentum: float = 0.1
    """Weight of the newest batch in the running averages."""
    max_steps: int = 512
    """Time steps for which statistics can be kept."""
    min_rows: int = 2
    """A training step with fewer active rows uses the running statistics."""
    sync: bool = False
    """Statistics are over the rows of all processes of torch.distributed's default group, as in
    torch.nn.SyncBatchNorm; false: each process normalises by its own rows."""

    @property
    def initial_gain(self) -> float:
        """The gain, or its default for this kind of norm."""
        return DEFAULT_GAIN[self.kind] if self.gain is None else self.gain

    @property
    def initial_cell_gain(self) -> float:
        """The gain of the cell state's norm, or that of the others."""
        return self.initial_gain if self.cell_gain is None else self.cell_gain

    def __post_init__(self) -> None:
        self._check_ranges()
        self._check_meaning()

    def _check_ranges(self) -> None:
        if not isinstance(self.kind, NormKind):
            raise ValueError(f"norm.kind={self.kind!r}: expected a NormKind")
        checks = (
            ("eps", 1e-30 <= self.eps <= 1000, "a finite number above 0: 1e-30 to 1000"),
            *(
                (
                    name,
                    value is None or 0 <= value <= LARGEST_GAIN,
                    f"a finite number or none: 0 to {LARGEST_GAIN}",
                )
                for name, value in (("gain", self.gain), ("cell_gain", self.cell_gain))
            ),
            ("momentum", 0 <= self.momentum <= 1, "a weight from 0 to 1"),
            ("max_steps", 1 <= self.max_steps <= MOST, f"at least 1 and at most {MOST}"),
            (
                "min_rows",
                2 <= self.min_rows <= MOST,
                f"at least 2, the fewest rows with a variance, and at most {MOST}",
            ),
        )
        for name, holds, expected in checks:
            if not holds:
                raise ValueError(f"norm.{name}={getattr(self, name)}: expected {expected}")

    def _check_meaning(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default and field.name not in MEANINGFUL[self.kind]:
                raise ValueError(
                    f"norm.{field.name}={shown(value)}: means nothing to norm.kind="
                    f"{self.kind.value}; expected {shown(field.default)}"
                )
        if self.kind is NormKind.batch and self.group is NormGroup.gate:
            raise ValueError(
                "norm.group=gate: batch norm normalises every feature separately; expected"
                " group=vector"
            )
        if self.cell is CellNorm.none and self.cell_gain is not None:
            raise ValueError(
                f"norm.cell_gain={self.cell_gain}: means nothing to norm.cell=none, which has no"
                " norm of the cell state; expected null, or norm.cell=output"
            )
        joint = self.terms in (Terms.joint, Terms.joint_all)
        if self.statistics is Statistics.sequence_input and joint:
            raise ValueError(
                f"norm.terms={shown(self.terms)}: norm.statistics=sequence_input normalises the"
                " input term of all steps together; expected norm.terms=separate"
            )


def norm_config(norm: str | NormConfig) -> NormConfig:
    """Return the settings of a norm given by its name or by its settings."""
    if isinstance(norm, str) and norm in NormKind.__members__:
        return NormConfig(kind=NormKind[norm])
    if not isinstance(norm, NormConfig):
        raise ValueError(
            f"norm={norm!r}: expected one of {', '.join(NormKind.__members__)} or a NormConfig"
        )
    return copy(norm)  # the caller's may change


def shown(value: object) -> object:
    """Return a setting's value as it is written in a configuration."""
    return value.value if isinstance(value, Enum) else "null" if value is None else value
