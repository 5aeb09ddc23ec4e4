"""A trained model is loaded without a second copy of its weights."""

from pathlib import Path
from shutil import copytree

import pytest
import torch
from runs import Runs, corpus, settings, trained

from seq2seq.config import DecodeConfig, ModelConfig, TokenizerConfig, Tying
from seq2seq.data.shortlist import Shortlist
from seq2seq.data.tokenizer import Tokenizers
from seq2seq.model import Translator
from seq2seq.runs.checkpoint import group, load_checkpoint
from seq2seq.runs.folder import Run
from seq2seq.translation.loading import load_shortlist, load_translator

pytest_plugins = ["run_fixtures"]
MAPS = Path("/proc/self/maps")
CPU = torch.device("cpu")


def file_of(address: int) -> str:
    """Return the file that is mapped at an address of this process; "" if none is."""
    for line in MAPS.read_text(encoding="utf-8").splitlines():
        place, *_, name = line.split(maxsplit=5)
        first, last = (int(end, 16) for end in place.split("-"))
        if first <= address < last:
            return name
    return ""


@pytest.mark.skipif(not MAPS.exists(), reason="only Linux tells what is mapped")
def test_the_weights_are_those_of_the_file(two_runs: Runs) -> None:
    run = Run(two_runs.layer)
    model, _ = load_translator(run, CPU)
    path = str(run.checkpoint("best").resolve())
    assert {file_of(p.data_ptr()) for p in model.parameters()} == {path}
    assert not model.training
    expected = group(load_checkpoint(run.checkpoint("best"))[0], "model")
    assert expected.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name])


def test_no_weights_are_drawn_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = settings(corpus(tmp_path / "corpus"), updates=2)
    config.model = ModelConfig(24, 32, spectral_radius=0.5)
    run, chance = Run(trained(tmp_path / "run", config)), torch.get_rng_state()
    monkeypatch.setattr(Translator, "reset_parameters", lambda _: pytest.fail("weights were drawn"))
    model, _ = load_translator(run, CPU)
    assert torch.equal(torch.get_rng_state(), chance)
    expected = group(load_checkpoint(run.checkpoint("best"))[0], "model")
    assert all(torch.equal(tensor, expected[k]) for k, tensor in model.state_dict().items())


@pytest.mark.parametrize("tying", [Tying.target, Tying.all])
def test_tied_weights_stay_tied(tying: Tying, tmp_path: Path) -> None:
    config = settings(corpus(tmp_path / "corpus"), updates=2)
    config.model = ModelConfig(24, 32, dropout=0.0, tying=tying)
    config.tokenizer = TokenizerConfig(vocab_size=60, joint=True)
    model, _ = load_translator(Run(trained(tmp_path / "run", config)), CPU)
    shared = model.tgt_embedding.weight
    assert model.output.weight is shared
    assert (model.src_embedding.weight is shared) == (tying is Tying.all)


def test_a_run_that_may_only_be_read_has_a_shortlist(
    two_runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(copytree(two_runs.layer, tmp_path / "run"))
    save = Shortlist.save

    def refused(self: Shortlist, path: Path) -> None:
        if path == run.shortlist_file:
            raise PermissionError(13, "Permission denied", str(path))
        save(self, path)

    monkeypatch.setattr(Shortlist, "save", refused)
    found = load_shortlist(DecodeConfig(shortlist=5), run, Tokenizers.load(run.folder))
    assert found is not None
    assert not run.shortlist_file.exists()
