"""The self-check of the Triton kernels: before a kind of them serves, it has to agree.

A compiler or a GPU that nobody has tried may make a kernel that fails, or one that is wrong. So the
first call of each kind (`Kind`) runs two or three tiny problems by the kernels and by
`reference.recurrence`, on the device in question: sequences of different lengths, with and without
an initial state, with batch norm also in eval mode. Output, last states, running statistics and all
gradients are compared. The process keeps the answer.

The problems have the H and eps of the call, for which Triton compiles: the kernels that are checked
are those that serve. What they compile is compiled once.

Both ways make the same products with the same settings, so the reference is float32 too. They sum
in another order, and what goes into later products is rounded once more. A difference is measured
as a part of the largest element compared. It may be TIMES as large as the rounding of a product of
this type on this device, which is measured too: it depends on bfloat16 (2^-9) and on whether
PyTorch may use TF32 (2^-11) or not (2^-24). It may always be LEAST, for the rounding of everything
else. Batch norm divides by the deviation of few rows, which amplifies rounding.

Nothing else changes. Numbers are drawn by a generator of its own. All runs in a thread of its own,
in which modes of autograd, autocast, inference, hooks, the device and its stream are PyTorch's
defaults, whatever they are in the caller's. The check waits for the device. It does not run while a
program is traced, under a mode of PyTorch that changes operators, or while the current stream is
captured in a CUDA graph: then the reference serves, unless the kind was checked before.

What it cannot find: a kernel that reads or writes outside its arrays, which may end all work of the
process on the device, one that never ends, and one that is wrong for other sizes or values alone.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .. import reference
from ..config import NormConfig, NormKind
from ..cpu import launch
from ..cpu.vectors import kernel_of
from ..normalization import Term
from ..packing import Layout
from ..precision import product_dtype
from ..reference import CellParameters
from ..statistics import BatchStatistics

SIZES = [70, 66, 9, 2]
"""Rows of each step: more than a tile of columns.py, and in all more than a block of the sums."""
MIN_ROWS = 4
"""Steps with fewer rows use running statistics, in the problems with batch norm."""
INPUTS = 5
LEAST = {"batch": 1e-3}
"""The difference that is always allowed, by norm; 1e-4 for the others. Tests of the kernels, with
the reference in float64, allow 1e-3 and 5e-5.
"""
TIMES = 10
PROBLEMS = {
    "with an initial state": (True, True),
    "without an initial state": (False, True),
    "in eval mode": (True, False),
}
"""Whether there is an initial state, and whether batch norm uses the statistics of the batch."""
UNCHECKED = (
    "the GPU kernels are not checked yet, which needs a call outside of tracing and CUDA graphs"
)


class Kind(NamedTuple):
    """What kernels are compiled for, and on what device."""

    device: torch.device
    cell: str
    """As `kernel_of` names it."""
    norm: str
    eps: float
    hidden: int
    products: torch.dtype
    normalises_input: bool
    """Without it batch norm normalises the input term before the recurrence."""
    gradients: bool
    """In training; else only the kernels of inference are checked."""

    def __str__(self) -> str:
        """Name the kernels, for a message."""
        norm = "no norm" if self.norm == "none" else f"{self.norm} norm"
        return (
            f"the GPU kernels of {self.cell} with {norm}"
            + ", normalised input term" * (not self.normalises_input)
            + f", products in {str(self.products).removeprefix('torch.')}, H={self.hidden},"
            f" {'training' if self.gradients else 'inference'}, on {self.device}"
        )


KNOWN: dict[Kind, str | None] = {}
"""Why kernels of a kind do not serve; None: they do."""
LOCK = threading.Lock()
"""Held while kernels are checked."""


def failure(p: CellParameters) -> str | None:
    """Return why the kernels do not serve a case that they support, or None; check them if needed.

    torch.OutOfMemoryError if there is no memory for the problems: that is no answer.
    """
    kind = Kind(
        p.weight_hh.device,
        kernel_of(p),
        p.ih.kind,
        p.ih.eps,
        p.weight_hh.size(1),
        product_dtype(p.weight_hh),
        not p.whole_sequence,
        torch.is_grad_enabled(),
    )
    tracing = torch.compiler.is_compiling()
    cause = known(*kind) if tracing else KNOWN.get(kind, UNCHECKED)
    if cause != UNCHECKED or not can_check(p.weight_hh):
        return cause
    with LOCK:
        if kind not in KNOWN:
            KNOWN[kind] = answer(kind, p)
            if kind.gradients and KNOWN[kind] is None:  # those of inference agreed too
                KNOWN.setdefault(kind._replace(gradients=False), None)
        return KNOWN[kind]


def known(*kind: Any) -> str | None:
    """Return what is known of a `Kind`: why it does not serve, or None; UNCHECKED: nothing."""
    return KNOWN.get(Kind(*kind), UNCHECKED)


known._dynamo_marked_constant = True  # type: ignore[attr-defined]  # while it traces


def can_check(weight: Tensor) -> bool:
    """Return whether this is a call in which kernels can run and be waited for."""
    if torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return False
    if torch._C._len_torch_dispatch_stack() or type(weight) not in (Tensor, nn.Parameter):
        return False  # such as fake tensors
    return not (torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing())


def answer(kind: Kind, p: CellParameters) -> str | None:
    """Check the kernels of a kind in a thread; return why they do not serve, or None."""
    with ThreadPoolExecutor(1, "self-check") as threads:
        done = threads.submit(compare, kind, p)
    error = done.exception()
    if isinstance(error, torch.OutOfMemoryError):
        raise error
    if error is not None:  # whatever Triton, its compiler or the driver raises
        words = " ".join(str(error).split())[:300]
        return f"{kind} fail: {type(error).__name__}: {words}"
    return done.result()


def compare(kind: Kind, p: CellParameters) -> str | None:
    """Return by how much the kernels of a kind are off, if that is too much; else None."""
    of_device = torch.cuda.device(kind.device) if kind.device.type == "cuda" else nullcontext()
    low = kind.products != torch.float32
    with of_device, torch.autocast(kind.device.type, kind.products, enabled=low):
        allowed = max(LEAST.get(kind.norm, 1e-4), TIMES * rounding(kind))
        apart: dict[str, float] = {}
        for where, settings in PROBLEMS.items():
            if kind.norm != "batch" and not settings[1]:
                continue
            problem = Problem(p, *settings, kind.device)
            for trains in (True, False) if kind.gradients else (False,):
                expected, found = (
                    problem.results(run, trains)
                    for run in (reference.recurrence, launch.recurrence)
                )
                for name, part in distances(found, expected).items():
                    name = f"{name} {where}"
                    apart[name] = max(part, apart.get(name, 0.0))
    off = {name: part for name, part in apart.items() if part > allowed}
    if not off:
        return None
    name = next(iter(off))  # results come before the gradients that follow from them
    more = f" ({len(off) - 1} more results are off)" * (len(off) > 1)
    return (
        f"{kind}, are wrong: {name} is off by {off[name]:.2g} of its largest element from"
        f" backend=reference; allowed is {allowed:.2g}{more}"
    )


def rounding(kind: Kind) -> float:
    """Return the error of a product of the kind's type, as a part of its largest element."""
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(32, kind.hidden, generator=generator, device="cpu") for _ in range(2))
    exact = a.double() @ b.double().t()
    found = (a.to(kind.device) @ b.to(kind.device).t()).double().cpu()
    return ((found - exact).abs().max() / exact.abs().max()).item()


class Problem:
    """A tiny recurrence with the settings of another one, and random numbers."""

    def __init__(
        self, p: CellParameters, given: bool, by_batch: bool, device: torch.device
    ) -> None:
        """Draw it; `given`: with an initial state; `by_batch`: batch norm as in training."""
        self.p, self.by_batch, self.layout = p, by_batch, Layout.of_packed(SIZES)
        self.generator, self.device = torch.Generator().manual_seed(0), device
        rows, hidden = p.weight_hh.shape
        leaves = {
            "input": self.normal(sum(SIZES), INPUTS),
            "weight_ih": self.normal(rows, INPUTS, scale=INPUTS**-0.5),
            "weight_hh": self.normal(rows, hidden, scale=hidden**-0.5),
        }
        for name, term in self.terms().items():
            if term.gain is not None:
                leaves[f"gain_{name}"] = self.normal(term.gain.size(0), scale=0.1, shift=0.5)
            if term.gain is not None or name != "c":
                size = hidden if name == "c" else rows
                leaves[f"bias_{name}"] = self.normal(size, scale=0.3)
        parts = ("h_0", "c_0") if p.cell == "lstm" else ("h_0",)
        leaves |= {name: self.normal(SIZES[0], hidden) for name in parts if given}
        self.leaves = {name: leaf.requires_grad_() for name, leaf in leaves.items()}
        self.upstream = [self.normal(n, hidden) for n in (sum(SIZES), *[SIZES[0]] * len(parts))]
        self.statistics = {
            name: (self.normal(*shape), self.normal(*shape).abs() + 0.5)
            for name, term in self.terms().items()
            if (shape := self.shape(term)) is not None
        }

    def terms(self) -> dict[str, Term]:
        """Return the terms of the recurrence whose settings these are."""
        return {"ih": self.p.ih, "hh": self.p.hh, "c": self.p.c}

    def normal(self, *shape: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
        """Return random numbers, drawn without PyTorch's own generators."""
        drawn = torch.randn(shape, generator=self.generator, dtype=torch.float32, device="cpu")
        return (scale * drawn + shift).to(self.device)

    def shape(self, term: Term) -> tuple[int, int] | None:
        """Return the shape of a term's running statistics; None where it has none."""
        if term.gain is None or term.statistics is None:
            return None
        return 1 if term.statistics.whole_sequence else len(SIZES), term.gain.size(0)

    def parameters(self) -> CellParameters:
        """Return the parameters, with running statistics as they were drawn."""
        ih, hh, c = (self.term(name, term) for name, term in self.terms().items())
        return replace(
            self.p,
            weight_ih=self.leaves["weight_ih"],
            weight_hh=self.leaves["weight_hh"],
            bias_hh=self.leaves["bias_hh"],
            ih=ih,
            hh=hh,
            c=c,
            steps=None,
            kept=None,
        )

    def term(self, name: str, term: Term) -> Term:
        """Return a term with the numbers that were drawn."""
        bias = self.leaves.get(f"bias_{name}")
        if term.gain is None:
            return Term(bias=bias)
        gain, found = self.leaves[f"gain_{name}"], None
        if term.statistics is not None:
            mean, var = (s.clone() for s in self.statistics[name])
            updates = torch.ones(mean.size(0), dtype=torch.long, device=self.device)
            found = BatchStatistics(
                mean,
                var,
                updates,
                updates.new_tensor(mean.size(0)),
                last=mean.size(0) - 1,
                norm=NormConfig(NormKind.batch, eps=term.eps, min_rows=MIN_ROWS),
                use_batch=self.by_batch,
                update=self.by_batch,
                whole_sequence=term.statistics.whole_sequence,
                pool=None,
            )
        return Term(term.kind, gain, bias, term.eps, term.segments, found)

    def results(self, run: Any, trains: bool) -> dict[str, Tensor]:
        """Return what a backend computes: output, last states, statistics and gradients."""
        p = self.parameters()
        state = tuple(self.leaves[name] for name in ("h_0", "c_0") if name in self.leaves) or None
        with torch.set_grad_enabled(trains):
            output, last = run(self.leaves["input"], self.layout, state, p)
        values = (output, *last)
        found = dict(zip(("output", "h_n", "c_n"), values, strict=False))
        for name, term in (("ih", p.ih), ("hh", p.hh), ("c", p.c)):
            if term.statistics is not None:
                term.statistics.finish()
                found[f"running_mean_{name}"] = term.statistics.running_mean
                found[f"running_var_{name}"] = term.statistics.running_var
        if trains:
            leaves = list(self.leaves.values())
            gradients = torch.autograd.grad(
                values, leaves, self.upstream, allow_unused=True, materialize_grads=True
            )
            names = (f"gradient of {name}" for name in self.leaves)
            found |= dict(zip(names, gradients, strict=True))
        return {name: value.detach() for name, value in found.items()}


def distances(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """Return the largest difference by name, as a part of the largest element; NaN is infinite."""
    apart = {}
    for name, e in expected.items():
        off = ((found[name] - e).abs().max() / e.abs().max().clamp(min=1e-6)).item()
        apart[name] = off if off == off else float("inf")
    return apart
