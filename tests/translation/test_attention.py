"""Attention maps of given pairs."""

from pathlib import Path

import torch
from runs import Runs, settings, trained
from typed import present

from seq2seq.config import Attention, ModelConfig
from seq2seq.runs.folder import Run
from seq2seq.translation.attention import attention_map
from seq2seq.translation.lines import Session
from seq2seq.translation.loading import load_translator

pytest_plugins = ["run_fixtures"]
CPU = torch.device("cpu")


def test_the_attention_map_of_a_pair_equals_that_of_translation(
    two_runs: Runs, tmp_path: Path
) -> None:
    run = Run(two_runs.layer)
    model, tokenizers = load_translator(run, CPU)
    src, tgt = two_runs.sources[0], two_runs.references[0]
    weights, src_pieces, tgt_pieces = present(attention_map(model, tokenizers, src, tgt))
    assert weights.shape == (len(tgt_pieces), len(src_pieces))
    assert src_pieces[-1] == tgt_pieces[-1] == "</s>"
    torch.testing.assert_close(weights.sum(1), torch.ones(len(tgt_pieces)))
    (found,) = Session(model, tokenizers).translate([src], attention=True)[0]
    assert found.text == tgt
    assert found.tgt_pieces == tgt_pieces[:-1]
    torch.testing.assert_close(found.attention, weights, rtol=1e-4, atol=1e-5)

    assert attention_map(model, tokenizers, "a " * 2000, "b " * 2000) is None  # no one looks at it

    plain = Run(
        trained(
            tmp_path / "run",
            settings(two_runs.data, updates=1, model=ModelConfig(8, 8, attention=Attention.none)),
        )
    )
    assert attention_map(*load_translator(plain, CPU), src, tgt) is None
