"""A training is killed at 30 random moments, and ends as the one that was never killed.

`make torture COUNT=1000` kills more of them, of all kinds.
"""

import pytest
from run_comparison import differences
from torture import Kill, Torture

KILLS = 10
"""Of each kind."""
FIRST_LINE = 90
"""Changes of files before a training's first line of metrics.jsonl, and some fewer."""


@pytest.fixture(scope="module")
def torture(tmp_path_factory: pytest.TempPathFactory) -> Torture:
    return Torture(tmp_path_factory.mktemp("torture"))


@pytest.mark.parametrize("kind", ["batch", "bpe-dropout", "accumulation"])
def test_a_killed_training_ends_as_one_that_never_was(kind: str, torture: Torture) -> None:
    kills, seed = 0, 0
    while kills < KILLS:
        kills += len(torture.kill(kind, seed, KILLS - kills).kills)
        seed += 1


def test_a_kill_in_the_middle_of_the_first_logged_line(torture: Torture) -> None:
    whole, changes = torture.whole("batch")
    for change in range(FIRST_LINE, changes):
        training = torture.training("batch", f"torn-{change}")
        training.start(Kill(change=change, torn=True))
        if "open run/metrics.jsonl" in training.kills[0]:
            break
    assert training.run.metrics_file.read_text() == '{"kind": "tr'
    training.start(Kill())
    assert list(differences(training.run, whole.run)) == []
