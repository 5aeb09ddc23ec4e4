"""A fixture over `two_processes`."""

from pathlib import Path

import pytest
from two_processes import StartTwo, one_of_two, run_together, variables


@pytest.fixture
def start_two(toy: list[str], tmp_path: Path) -> StartTwo:
    """Return a function that trains in two processes and returns what they print.

    The processes have the variables of torchrun, but not torchrun itself: they are copies of a
    process that has imported torch already.
    """

    def start(folder: str, *overrides: str) -> str:
        arguments = [*toy, f"hydra.run.dir={folder}", *overrides]
        given = (arguments, tmp_path, variables())
        run_together(one_of_two, given)
        return "".join((tmp_path / f"output{rank}").read_text() for rank in range(2))

    return start
