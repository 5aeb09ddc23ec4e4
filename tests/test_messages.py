"""The check that every error of the tests passes through refuses what is no good message."""

import pytest
from conftest import Done
from messages import assert_explained

GOOD = "train.py: optimizer.lr=-1: expected at least 0\n"


def test_a_good_message_passes() -> None:
    assert_explained(GOOD, [])
    assert_explained(f"\rpreparing: 10%\rsome remark\n{GOOD}", [])
    assert_explained(f"failed: seed=1: optimizer.lr=-1: expected 0\n{GOOD}", ["-m"])
    assert_explained(f"train.py: {'/folder' * 100}/a.de: no such file\n", [])
    assert_explained("train.py: data.name=x: [...] expected another\n", ["data.name=" + "x" * 90])
    assert_explained("train.py: here: another process writes; wait for it\n", ["run=here"])


@pytest.mark.parametrize(
    "err",
    [
        "",
        "optimizer.lr is wrong\n",
        "train.py: optimizer.lr=-1: is bad\n",
        "train.py: something is wrong: expected another\n",
        GOOD + GOOD,
        f"Error executing job with overrides: ['seed=1']\n{GOOD}",
        f"Traceback (most recent call last):\n{GOOD}",
        "train.py: a.yaml: expected a key\n    full_key: optimizer.lr\n    object_type=Config\n",
        f"train.py: optimizer.lr=-1: expected {'x' * 180}\n",
        f"train.py: /tmp/a/{'x' * 200}: expected another\n",
        "train.py: optimizer.lr=-1: [...] expected another\n",
        f"a remark of {'x' * 200} characters\n{GOOD}",
    ],
)
def test_any_other_is_refused(err: str) -> None:
    with pytest.raises(AssertionError):
        assert_explained(err, [])


def test_every_command_of_the_tests_is_checked() -> None:
    assert Done(2, "", GOOD).code == 2
    with pytest.raises(AssertionError):
        Done(2, "", "train.py: no\n")
