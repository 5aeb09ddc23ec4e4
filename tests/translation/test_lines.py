from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.image import imread
from runs import Runs, settings, trained
from typed import present

from seq2seq.config import (
    DecodeConfig,
    Precision,
    TokenizerConfig,
    TokenizerKind,
)
from seq2seq.model import Translator
from seq2seq.runs.folder import Run
from seq2seq.runs.logbook import translating_bar
from seq2seq.translation import lines as translation
from seq2seq.translation.lines import Session
from seq2seq.translation.loading import load_translator

pytest_plugins = ["run_fixtures"]


def session(run: Path, **decode: Any) -> Session:
    opened = Run(run)
    return Session(
        *load_translator(opened, torch.device("cpu")),
        DecodeConfig(**decode),
        Precision.fp32,
    )


# -- lines ---


@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize("beam", [1, 4])
def test_translations_do_not_depend_on_batches(two_runs: Runs, norm: str, beam: int) -> None:
    lines = ["", *two_runs.sources[:9], "dogs", " ", " ".join(two_runs.sources[9:14]), ""]
    alone = [
        session(getattr(two_runs, norm), beam_size=beam).translate([line], beam)[0]
        for line in lines
    ]
    for size in (1, 3, 64):
        together = session(getattr(two_runs, norm), beam_size=beam, batch_size=size).translate(
            lines, beam
        )
        for one, other in zip(alone, together, strict=True):
            assert [t.text for t in one] == [t.text for t in other]
            assert [t.score for t in one] == pytest.approx([t.score for t in other], abs=1e-4)
    assert len({t[0].text for t in alone}) > 5


def test_n_best_translations_are_different_and_sorted(two_runs: Runs) -> None:
    five = session(two_runs.none).translate(two_runs.sources, 5)
    for found in five:
        assert [t.score for t in found] == sorted((t.score for t in found), reverse=True)
        assert len({tuple(t.tgt_pieces) for t in found}) == 5
    assert [t[:2] for t in session(two_runs.none).translate(two_runs.sources, 2)] == [
        t[:2] for t in five
    ]


def test_an_empty_line_has_the_empty_translation(two_runs: Runs) -> None:
    for found in session(two_runs.layer).translate(["", " \t", "\u200b"], 3, attention=True):
        assert [(t.text, t.score, t.src_pieces, t.tgt_pieces, t.attention) for t in found] == [
            ("", 0.0, [], [], None)
        ]
    assert session(two_runs.layer).translate([]) == []


def test_attention_is_kept_only_on_request(two_runs: Runs) -> None:
    asked = session(two_runs.layer)
    assert asked.translate(two_runs.sources[:1])[0][0].attention is None
    for (found,) in asked.translate(two_runs.sources, attention=True):
        weights = present(found.attention)
        assert weights.shape == (len(found.tgt_pieces) + 1, len(found.src_pieces) + 1)
        torch.testing.assert_close(weights.sum(1), torch.ones(len(weights)))


def test_no_piece_of_a_long_line_is_dropped(two_runs: Runs) -> None:
    long = " ".join(two_runs.sources * 10)  # 1,500 words
    (found,) = session(two_runs.layer, beam_size=2, max_length="30").translate(
        [long], attention=True
    )[0]
    assert len(found.src_pieces) >= 1500
    assert present(found.attention).shape[1] == len(found.src_pieces) + 1
    assert "".join(found.src_pieces).replace("▁", " ").strip() == long


def test_a_wrong_search_is_refused(two_runs: Runs) -> None:
    with pytest.raises(ValueError, match="n_best=6: expected 1 to beam_size=5"):
        session(two_runs.layer).translate(["one"], 6)
    with pytest.raises(ValueError, match="n_best=0: expected 1"):
        session(two_runs.layer).translate(["one"], 0)
    with pytest.raises(ValueError, match="beam_size=0"):
        session(two_runs.layer, beam_size=0).translate([])


def test_a_model_with_nan_weights_raises_a_clear_error(two_runs: Runs) -> None:
    opened = session(two_runs.layer)
    with torch.no_grad():
        opened.model.output.bias.fill_(float("nan"))
    with pytest.raises(RuntimeError, match="probabilities are not finite"):
        opened.translate(["one dogs"])


def test_progress_is_shown_only_on_request(
    two_runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    session(two_runs.layer, beam_size=1).translate(two_runs.sources)
    assert capsys.readouterr() == ("", "")
    session(two_runs.layer, beam_size=1).translate(two_runs.sources, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "translating" in shown.err


def test_kernels_are_loaded_before_the_progress_bar_starts(
    two_runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = session(two_runs.layer, beam_size=1)
    happened: list[str] = []

    def bar(*arguments: Any) -> Any:
        happened.append("bar")
        return translating_bar(*arguments)

    monkeypatch.setattr(Translator, "load_kernels", lambda self: happened.append("kernels"))
    monkeypatch.setattr(translation, "translating_bar", bar)
    opened.translate(two_runs.sources[:1], progress=True)
    assert happened[:2] == ["kernels", "bar"]


def test_a_trained_run_copies_unknown_words(two_runs: Runs, tmp_path: Path) -> None:
    """The word vocabulary is small, so that both sides have unknown words."""
    config = settings(
        two_runs.data, "layer", 60, tokenizer=TokenizerConfig(TokenizerKind.word, 8, joint=False)
    )
    run = trained(tmp_path / "run", config)
    plain = session(run).translate(two_runs.sources)
    copied = session(run, replace_unk=True).translate(two_runs.sources)
    assert any("⁇" in t.text for (t,) in plain)
    for (one,), (other,), line in zip(plain, copied, two_runs.sources, strict=True):
        assert "⁇" not in other.text
        assert one.tgt_pieces == other.tgt_pieces
        if "⁇" in one.text:
            assert any(word in other.text for word in line.split())


# -- attention maps ---


def test_an_attention_map_is_drawn_completely_or_not_at_all(
    two_runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = session(two_runs.layer)
    (found,) = opened.translate(two_runs.sources[:1], attention=True)[0]
    opened.draw_attention(found, tmp_path / "a.png")
    height, width, _ = imread(tmp_path / "a.png").shape
    assert height > 200 < width
    with pytest.raises(ValueError, match=r"b\.png: no attention to draw"):
        opened.draw_attention(replace(found, attention=None), tmp_path / "b.png")
    monkeypatch.setattr(translation, "attention_figure", None)
    with pytest.raises(TypeError):
        opened.draw_attention(found, tmp_path / "b.png")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_translation_cut_at_the_limit_can_be_drawn(two_runs: Runs, tmp_path: Path) -> None:
    opened = session(two_runs.layer, max_length="2")
    (found,) = opened.translate(two_runs.sources[:1], attention=True)[0]
    assert len(present(found.attention)) == len(found.tgt_pieces) == 2
    opened.draw_attention(found, tmp_path / "a.png")


def test_attention_works_in_half_precision(two_runs: Runs, tmp_path: Path) -> None:
    opened = replace(session(two_runs.layer), precision=Precision.bf16)
    (found,) = opened.translate(two_runs.sources[:1], attention=True)[0]
    weights = present(found.attention)
    torch.testing.assert_close(
        weights.float().sum(1), torch.ones(len(weights)), rtol=0.02, atol=0.02
    )
    opened.draw_attention(found, tmp_path / "a.png")
