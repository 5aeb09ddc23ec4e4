"""A training is killed at 30 random moments, and ends as the one that was never killed.

`make torture COUNT=1000` kills more of them, of all kinds.
"""

import pytest
from torture import Torture

KILLS = 10
"""Of each kind."""


@pytest.fixture(scope="module")
def torture(tmp_path_factory: pytest.TempPathFactory) -> Torture:
    return Torture(tmp_path_factory.mktemp("torture"))


@pytest.mark.parametrize("kind", ["batch", "bpe-dropout", "accumulation"])
def test_a_killed_training_ends_as_one_that_never_was(kind: str, torture: Torture) -> None:
    kills, seed = 0, 0
    while kills < KILLS:
        kills += len(torture.kill(kind, seed, KILLS - kills).kills)
        seed += 1
