import pickle

import pytest

from seq2seq.app import cli
from seq2seq.app.cli import guarded, run_folder, run_name
from seq2seq.errors import Stopped, TrainingError

CHOICES = {"norm": "layer", "cell": "lstm", "model": "base"}


def test_a_run_is_named_after_what_was_chosen():
    assert (
        run_name(CHOICES, ["norm=layer", "seed=3", "data=grammar_en_zh", "model=base"], 3)
        == "layer-lstm-base-seed3"
    )
    overrides = [
        "optimizer.lr=0.1",
        "+norm.eps=1",
        "resume=x",
        "overwrite=true",
        "data.batch_tokens=100",
    ]
    assert (
        run_name(CHOICES, overrides, 1)
        == "layer-lstm-base-seed1,+norm.eps=1,data.batch_tokens=100,optimizer.lr=0.1"
    )
    assert run_name(CHOICES, overrides, 1) == run_name(CHOICES, overrides[::-1], 1)


def test_a_name_is_fit_for_a_folder():
    path = run_name(CHOICES, ["data.train.source=/a b/c.txt"], 1)
    assert path == "layer-lstm-base-seed1,data.train.source=_a_b_c.txt"
    long = [f"data.train.source={'x' * 300}{i}" for i in range(2)]
    names = {run_name(CHOICES, [o], 1) for o in long}
    assert len(names) == 2
    assert all(len(name.encode()) <= 200 for name in names)


def test_resuming_makes_no_folder():
    assert run_folder("grammar/layer", None) == "outputs/grammar/layer"
    assert run_folder("grammar/layer", "elsewhere/run") == "."


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ValueError("bad value"), 2),
        (FileNotFoundError(2, "No such file", "x.txt"), 2),
        (TrainingError("not finite"), 1),
        (OSError(28, "No space left on device", "x.txt"), 1),
        (Stopped("saved", 0), 0),
        (Stopped("saved", 130), 130),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes(error, code, capsys, monkeypatch):
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def main():
        raise error

    assert guarded(main) == code
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    assert printed.count("\n") == 1
    if isinstance(error, OSError):
        assert "x.txt: " in printed


def test_a_traceback_on_request(monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def main():
        raise ValueError("bad value")

    with pytest.raises(ValueError, match="bad value"):
        guarded(main)


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(TypeError):
        guarded(lambda: cli.run_name(None, [], 1))


def test_a_stop_comes_whole_from_a_worker_process():
    """A sweep's launcher sends it by pickle: else the pool counts as broken, and what to go on with
    is lost.
    """
    stopped = pickle.loads(pickle.dumps(Stopped("SIGTERM: saved", 130)))
    assert (type(stopped), str(stopped), stopped.exit_code) == (Stopped, "SIGTERM: saved", 130)
