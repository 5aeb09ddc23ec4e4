from dataclasses import replace

import pytest
import torch
from matplotlib.image import imread
from runs import settings, trained

from seq2seq.config import (
    Attention,
    DecodeConfig,
    ModelConfig,
    Precision,
    TokenizerConfig,
    TokenizerKind,
)
from seq2seq.data.tokenizer import Tokenizer, Tokenizers
from seq2seq.runs.folder import Run
from seq2seq.translation import lines as translation
from seq2seq.translation.lines import Session, attention_map, source_words, translate_lines
from seq2seq.translation.loading import load_translator
from seq2seq.translation.search import Hypothesis

pytest_plugins = ["run_fixtures"]

ENGLISH = [
    "one dog sees two cats",
    "two cats see one dog",
    "three dogs like four cats",
    "a dog likes cats",
] * 5
CHINESE = ["一只狗看见两只猫", "两只猫看见一只狗", "三只狗喜欢四只猫", "狗喜欢猫"] * 5


def session(run, **decode):
    opened = Run(run)
    return Session(
        *load_translator(opened, torch.device("cpu")),
        DecodeConfig(**decode),
        Precision.fp32,
    )


def tokenizer(lines, language, kind=TokenizerKind.bpe, vocab_size=45, **options):
    return Tokenizer.train(lines, TokenizerConfig(kind, vocab_size, **options), language)


# -- lines ---


@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize("beam", [1, 4])
def test_batches_translate_as_one_by_one(two_runs, norm, beam):
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


def test_n_best_are_different_and_best_first(two_runs):
    five = session(two_runs.none).translate(two_runs.sources, 5)
    for found in five:
        assert [t.score for t in found] == sorted((t.score for t in found), reverse=True)
        assert len({tuple(t.tgt_pieces) for t in found}) == 5
    assert [t[:2] for t in session(two_runs.none).translate(two_runs.sources, 2)] == [
        t[:2] for t in five
    ]


def test_an_empty_line_has_the_empty_translation(two_runs):
    for found in session(two_runs.layer).translate(["", " \t", "\u200b"], 3, attention=True):
        assert [(t.text, t.score, t.src_pieces, t.tgt_pieces, t.attention) for t in found] == [
            ("", 0.0, [], [], None)
        ]
    assert session(two_runs.layer).translate([]) == []


def test_attention_is_kept_on_request_alone(two_runs):
    asked = session(two_runs.layer)
    assert asked.translate(two_runs.sources[:1])[0][0].attention is None
    for (found,) in asked.translate(two_runs.sources, attention=True):
        assert found.attention.shape == (len(found.tgt_pieces) + 1, len(found.src_pieces) + 1)
        torch.testing.assert_close(found.attention.sum(1), torch.ones(len(found.attention)))


def test_no_piece_of_a_long_line_is_dropped(two_runs):
    long = " ".join(two_runs.sources * 10)  # 1,500 words
    (found,) = session(two_runs.layer, beam_size=2, max_length="30").translate(
        [long], attention=True
    )[0]
    assert len(found.src_pieces) >= 1500
    assert found.attention.shape[1] == len(found.src_pieces) + 1
    assert "".join(found.src_pieces).replace("▁", " ").strip() == long


def test_a_wrong_search_is_refused(two_runs):
    with pytest.raises(ValueError, match="n_best=6: expected 1 to beam_size=5"):
        session(two_runs.layer).translate(["one"], 6)
    with pytest.raises(ValueError, match="n_best=0: expected 1"):
        session(two_runs.layer).translate(["one"], 0)
    with pytest.raises(ValueError, match="beam_size=0"):
        session(two_runs.layer, beam_size=0).translate([])


def test_a_model_of_no_finite_numbers_is_a_clear_failure(two_runs):
    opened = session(two_runs.layer)
    with torch.no_grad():
        opened.model.output.bias.fill_(float("nan"))
    with pytest.raises(RuntimeError, match="probabilities are not finite"):
        opened.translate(["one dogs"])


def test_progress_is_shown_on_request_alone(two_runs, capsys):
    session(two_runs.layer, beam_size=1).translate(two_runs.sources)
    assert capsys.readouterr() == ("", "")
    session(two_runs.layer, beam_size=1).translate(two_runs.sources, progress=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "translating" in shown.err


# -- unknown words ---


class Pointing(torch.nn.Module):
    """Stands for a model; what is found is given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))


@pytest.fixture
def finds(monkeypatch):
    """Translate a line as if search had found these pieces, each looking at one source piece; None
    is <unk>.
    """

    def translate(source, target, line, pieces, looks_at, attends=True, replace_unk=True):
        ids = [
            Tokenizer.unk_id if piece is None else target.processor.piece_to_id(piece)
            for piece in pieces
        ]
        assert ids.count(Tokenizer.unk_id) == pieces.count(None)
        count = len(source.encode(line)) + 1
        weights = torch.full((len(ids) + 1, count), 0.1)
        for row, column in enumerate(looks_at):
            weights[row, column] = 1.0
        hypothesis = Hypothesis(ids, -1.0, -0.5, weights if attends else None)
        monkeypatch.setattr(translation, "search_in_batches", lambda *_: iter([(0, [hypothesis])]))
        config = DecodeConfig(replace_unk=replace_unk)
        return translate_lines(Pointing(), Tokenizers(source, target, False), [line], config)[0][
            0
        ].text

    return translate


def test_an_unknown_word_is_the_source_word_looked_at(finds):
    source, target = tokenizer(ENGLISH, "en"), tokenizer(CHINESE, "zh", vocab_size=30)
    line = "two Žižeks see cats"
    pieces = source.pieces(line)
    name = next(i for i, piece in enumerate(pieces) if "Ž" in piece)
    assert finds(source, target, line, ["猫", None, "狗"], [0, name, 1]) == "猫Žižeks狗"
    assert finds(source, target, line, [None, None], [0, name + 1]) == "twoŽižeks"
    assert finds(source, target, line, ["猫", None], [0, name], replace_unk=False) == "猫 ⁇"
    assert finds(source, target, line, ["猫", None], [0, name], attends=False) == "猫 ⁇"
    assert finds(source, target, line, ["猫"], [name]) == "猫"


def test_the_end_of_the_sentence_is_no_word_to_copy(finds):
    source, target = tokenizer(ENGLISH, "en"), tokenizer(CHINESE, "zh", vocab_size=30)
    end = len(source.encode("one dog"))
    assert finds(source, target, "one dog", [None], [end]) == "one"


def test_words_copied_into_a_spaced_language_keep_their_spaces(finds):
    source, target = (
        tokenizer(CHINESE, "zh", vocab_size=30),
        tokenizer(ENGLISH, "en", TokenizerKind.word),
    )
    line = "一只熊看见猫"
    place = source.pieces(line).index("熊")
    text = finds(source, target, line, ["▁one", None, "▁sees", "▁cats"], [0, place, 1, 2])
    assert text == "one 熊 sees cats"  # not the whole sentence, though no space ends the word


def test_words_of_a_word_tokenizer(finds):
    source, target = (tokenizer(ENGLISH, language, TokenizerKind.word) for language in ("en", "de"))
    assert finds(source, target, "one bear sees cats", ["▁one", None], [0, 1]) == "one bear"
    chinese = tokenizer(CHINESE, "zh", TokenizerKind.word)
    line = "两只熊猫看见一只狗"
    pieces = chinese.pieces(line)
    place = next(i for i, piece in enumerate(pieces) if "熊" in piece)
    assert finds(chinese, target, line, [None], [place]) == pieces[place] != line


def test_source_words():
    english = tokenizer(ENGLISH, "en")
    assert source_words(["▁two", "▁c", "at", "s", "▁", "x"], english) == [
        "two",
        "cats",
        "cats",
        "cats",
        "x",
        "x",
    ]
    assert source_words(["t", "wo", "▁cat"], english) == ["two", "two", "cat"]
    assert source_words([], english) == []
    assert source_words(["▁一", "只", "狗"], tokenizer(CHINESE, "zh", vocab_size=30)) == [
        "一",
        "只",
        "狗",
    ]
    assert source_words(["two", "cats"], tokenizer(ENGLISH, "en", TokenizerKind.word)) == [
        "two",
        "cats",
    ]


@pytest.mark.parametrize("kind", list(TokenizerKind))
@pytest.mark.parametrize("byte_fallback", [False, True])
def test_there_is_a_piece_for_every_id(kind, byte_fallback):
    bytes_too = byte_fallback and kind in (TokenizerKind.bpe, TokenizerKind.unigram)
    english = tokenizer(ENGLISH, "en", kind, 280 if bytes_too else 24, byte_fallback=byte_fallback)
    for line in ("one dog", "Žižek sees Ωλ dogs", "狗狗 dog", "  ", "x" * 50, "<unk> </s>"):
        assert len(english.pieces(line)) == len(english.encode(line))


def test_a_trained_run_copies_what_it_does_not_know(two_runs, tmp_path):
    """A word vocabulary of few pieces, so that both sides have unknown words."""
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


def test_the_attention_map_of_a_pair(two_runs, tmp_path):
    opened = session(two_runs.layer)
    src, tgt = two_runs.sources[0], two_runs.references[0]
    weights, src_pieces, tgt_pieces = attention_map(opened.model, opened.tokenizers, src, tgt)
    assert weights.shape == (len(tgt_pieces), len(src_pieces))
    assert src_pieces[-1] == tgt_pieces[-1] == "</s>"
    torch.testing.assert_close(weights.sum(1), torch.ones(len(tgt_pieces)))
    (found,) = opened.translate([src], attention=True)[0]
    assert found.text == tgt
    assert found.tgt_pieces == tgt_pieces[:-1]
    torch.testing.assert_close(found.attention, weights, rtol=1e-4, atol=1e-5)

    plain = Run(
        trained(
            tmp_path / "run",
            settings(two_runs.data, updates=1, model=ModelConfig(8, 8, attention=Attention.none)),
        )
    )
    assert (
        attention_map(*load_translator(plain, torch.device("cpu")), src, tgt) is None
    )


def test_a_map_is_drawn_whole_or_not_at_all(two_runs, tmp_path, monkeypatch):
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


def test_a_translation_cut_at_the_limit_can_be_drawn(two_runs, tmp_path):
    opened = session(two_runs.layer, max_length="2")
    (found,) = opened.translate(two_runs.sources[:1], attention=True)[0]
    assert len(found.attention) == len(found.tgt_pieces) == 2
    opened.draw_attention(found, tmp_path / "a.png")


def test_half_precision_attends_too(two_runs, tmp_path):
    opened = replace(session(two_runs.layer), precision=Precision.bf16)
    (found,) = opened.translate(two_runs.sources[:1], attention=True)[0]
    torch.testing.assert_close(
        found.attention.float().sum(1), torch.ones(len(found.attention)), rtol=0.02, atol=0.02
    )
    opened.draw_attention(found, tmp_path / "a.png")
