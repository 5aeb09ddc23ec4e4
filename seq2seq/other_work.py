"""Other work on the machine, from which several CPU threads of a recurrent network suffer most.

In a recurrent layer threads meet after the products of every time step. Where one of them has to
wait for a core, all wait for it.
"""

from pathlib import Path

import torch

SCHEDULER = Path("/proc/thread-self/schedstat")
"""Linux: nanoseconds that this thread has run, and that it has waited for a core."""
LEAST_SECONDS = 1.0
SHARE = 0.2
"""Of the time in which a thread could run; it waits so much only where others have its core."""


def core_times() -> tuple[float, float]:
    """Return the seconds that this thread has run and waited for a core; zeros if not known."""
    try:
        ran, waited, *_ = map(int, SCHEDULER.read_text().split())
    except (OSError, ValueError):
        return 0.0, 0.0
    return ran / 1e9, waited / 1e9


class OtherWork:
    """Measures what other work takes from this thread, from now on."""

    def __init__(self) -> None:
        """Begin to measure."""
        self.ran, self.waited = core_times()

    def remark(self, device: torch.device, what: str, one_thread: str) -> str:
        """Return what to say of it to somebody whose work is on a device; "" for nothing.

        `what` names the work, `one_thread` the setting that gives it one thread.
        """
        ran, waited = core_times()
        ran, waited = ran - self.ran, waited - self.waited
        threads, seconds = torch.get_num_threads(), ran + waited
        if device.type != "cpu" or threads == 1 or seconds < LEAST_SECONDS:
            return ""
        if waited < SHARE * seconds:
            return ""
        return (
            f"other work has the cores: this {what} waits for one {waited / seconds:.0%} of the"
            f" time. Its {threads} threads also wait for each other; one alone ({one_thread}) can"
            " be many times as fast"
        )
