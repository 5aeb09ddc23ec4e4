"""The tables on the terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from ..shown import escaped
from .contestants import PRODUCTS
from .timing import Speed, Timing

if TYPE_CHECKING:
    from .memory import Memory
    from .profiling import Share
    from .results import Check
    from .scaling import Scale
    from .startup import Start


def titled(title: str, *columns: str) -> Table:
    """Print a title; return an empty table whose first column names the contestants."""
    Console().print(title, soft_wrap=True, markup=False, highlight=False)
    table = Table(box=None, pad_edge=False)
    for column in ("", *columns):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    return table


def show_checks(checks: Sequence["Check"], left_out: Sequence[str]) -> None:
    """Print how many checks passed, what failed, and what there was no time for."""
    failed = [f"{check.name}: {check.failure}" for check in checks if check.failure is not None]
    if checks:
        print(f"{len(checks) - len(failed)} of {len(checks)} checks passed")
    for line in failed:
        print(f"  failed: {line}")
    for name in left_out:
        print(f"  no time left for: {name}")


def show_timings(tables: Mapping[str, Sequence[Timing]]) -> None:
    """Print tables of times."""
    for title, timings in tables.items():
        floor = next((t.milliseconds for t in timings if t.name == PRODUCTS), None)
        table = titled(title, "ms", "ratio", "quartiles", *(["products"] if floor else []))
        for t in timings:
            share = [f"{floor / t.milliseconds:.0%}"] if floor and "bfloat16" not in t.name else []
            table.add_row(t.name, f"{t.milliseconds:.1f}", f"{t.ratio:.2f}", spread(t), *share)
        Console().print(table)


def show_speeds(tables: Mapping[str, Sequence[Speed]], unit: str) -> None:
    """Print tables of speeds in units a second."""
    for title, speeds in tables.items():
        translates = any(s.pieces is not None for s in speeds)
        table = titled(title, f"{unit}/s", "ratio", "quartiles", *["pieces"] * translates)
        for s in speeds:
            pieces = [] if s.pieces is None else [f"{s.pieces:.1f}"]
            table.add_row(
                escaped(s.name), f"{s.per_second:,.0f}", f"{s.ratio:.2f}", spread(s), *pieces
            )
        Console().print(table)


def spread(row: Timing | Speed) -> str:
    """Return the quartiles of a ratio."""
    return f"{row.low:.2f} to {row.high:.2f}"


def show_means(found: Mapping[str, Mapping[str, float]]) -> None:
    """Print tables of geometric means of ratios."""
    for title, ratios in found.items():
        table = titled(title, "ratio")
        for name, ratio in ratios.items():
            table.add_row(name, f"{ratio:.2f}")
        Console().print(table)


def show_memory(found: "Mapping[str, Sequence[Memory]]") -> None:
    """Print tables of memory."""
    for title, rows in found.items():
        table = titled(title, "MiB", "ratio")
        for m in rows:
            table.add_row(m.name, f"{m.mebibytes:.0f}", f"{m.ratio:.2f}")
        Console().print(table)


def show_starts(found: "Mapping[str, Sequence[Start]]") -> None:
    """Print tables of start-up."""
    for title, rows in found.items():
        table = titled(title, "seconds", "range")
        for s in rows:
            table.add_row(s.name, f"{s.seconds:.2f}", f"{s.least:.2f} to {s.most:.2f}")
        Console().print(table)


def show_scales(found: "Mapping[str, Sequence[Scale]]") -> None:
    """Print tables of corpora of several sizes."""
    columns = "prepare s", "MiB", "start s", "range", "ms/update", "MiB"
    for title, rows in found.items():
        table = titled(title, *columns)
        for s in rows:
            prepared = f"{s.prepare_seconds:.1f}", f"{s.prepare_mebibytes:.0f}"
            start = f"{s.start_seconds:.2f}", f"{s.start_least:.2f} to {s.start_most:.2f}"
            trained = f"{s.update_milliseconds:.0f}", f"{s.train_mebibytes:.0f}"
            table.add_row(s.name, *prepared, *start, *trained)
        Console().print(table)


def show_profiles(
    found: "Mapping[str, Sequence[Share]]", operators: Mapping[str, str], least: float = 0.005
) -> None:
    """Print profiles by module, without shares under `least`, each with a table of operators."""
    for title, shares in found.items():
        table = titled(title, "forward ms", "backward ms", "share")
        for s in shares:
            if s.share >= least:
                table.add_row(s.module, f"{s.forward:.1f}", f"{s.backward:.1f}", f"{s.share:.1%}")
        Console().print(table)
        print(operators[title])
