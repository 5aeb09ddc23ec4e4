"""SentencePiece models that other programs have trained."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from invented_text import corpus, sentences
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from seq2seq.config import NormalForm, NormalizationConfig, TokenizerConfig, TokenizerKind
from seq2seq.data.preparation import prepare
from seq2seq.data.tokenizer import Tokenizer, Tokenizers
from seq2seq.errors import DataError

LAYOUTS: dict[str, dict[str, Any]] = {
    "default": {},
    "t5": {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
    "marian": {"eos_id": 0, "unk_id": 1, "bos_id": -1, "pad_id": -1},
    "only unk": {"unk_id": 5, "bos_id": -1, "eos_id": -1, "pad_id": -1},
    "last": {"unk_id": 59, "bos_id": 58, "eos_id": 57, "pad_id": 56},
    "names": {"unk_piece": "[UNK]", "bos_piece": "[CLS]", "eos_piece": "[SEP]"},
    "ours": {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3},
}


def foreign(kind: str = "unigram", size: int = 60, **options: Any) -> bytes:
    buffer = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(sentences()),
        model_writer=buffer,
        model_type=kind,
        vocab_size=size,
        minloglevel=2,
        **options,
    )
    return buffer.getvalue()


def own(path: Path, model: bytes, target: bytes | None = None) -> Tokenizers:
    path.write_bytes(model)
    other = None
    if target is not None:
        other = str(path.with_name("target.model"))
        Path(other).write_bytes(target)
    config = TokenizerConfig(model=str(path), target_model=other)
    return Tokenizers.own(config, ("en", "en"))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_any_special_ids_work(tmp_path: Path, layout: dict[str, Any]) -> None:
    model = foreign(**layout)
    tokenizer, theirs = own(tmp_path / "m.model", model).source, SentencePieceProcessor()
    theirs.LoadFromSerializedProto(model)
    names = [tokenizer.id_to_piece(i) for i in range(tokenizer.vocab_size)]
    assert names[:4] == ["<pad>", "<unk>", "<s>", "</s>"]
    assert len(set(names)) == len(names)
    special = {theirs.pad_id(), theirs.unk_id(), theirs.bos_id(), theirs.eos_id()}
    text = {theirs.id_to_piece(i) for i in range(theirs.vocab_size()) if i not in special}
    assert set(names[4:]) == text
    for line in [*sentences()[:20], "ψ birds"]:
        ids = tokenizer.encode(line)
        assert not {0, 2, 3} & set(ids)
        assert [names[i] for i in ids if i != 1] == [
            piece for piece in theirs.encode(line, out_type=str) if piece in text
        ]
        if 1 not in ids:
            assert tokenizer.decode(ids) == line
    assert tokenizer.decode([2, *tokenizer.encode(sentences()[0]), 3, 0]) == sentences()[0]
    assert "⁇" in tokenizer.decode([Tokenizer.unk_id])


@pytest.mark.parametrize("kind", [kind.value for kind in TokenizerKind])
def test_the_kind_is_the_models(tmp_path: Path, kind: str) -> None:
    size = 30 if kind == "char" else 60
    made = own(tmp_path / "m.model", foreign(kind, size, hard_vocab_limit=False))
    assert made.source.kind.value == kind
    made.save(tmp_path / "run")
    loaded = Tokenizers.load(tmp_path / "run")
    assert loaded.source.kind.value == kind
    assert loaded.source.encode("birds sing") == made.source.encode("birds sing")
    assert (tmp_path / "run" / "tokenizer.model").read_bytes() == made.source.model


def test_its_own_normalisation_counts(tmp_path: Path) -> None:
    """nmt_nfkc_cf folds case; identity keeps a ligature, which our NFKC would split."""
    folded = own(tmp_path / "a.model", foreign(normalization_rule_name="nmt_nfkc_cf")).source
    assert folded.pieces("BIRDS") == folded.pieces("birds")
    kept = own(tmp_path / "b.model", foreign(normalization_rule_name="identity")).source
    assert Tokenizer.unk_id in kept.encode("ﬁ")


def test_bytes_and_symbols_of_the_model_work(tmp_path: Path) -> None:
    model = foreign("bpe", 330, byte_fallback=True, user_defined_symbols="<url>")
    tokenizer = own(tmp_path / "m.model", model).source
    line = "birds 狗 <url> sing"
    assert Tokenizer.unk_id not in tokenizer.encode(line)
    assert "<url>" in tokenizer.pieces(line)
    assert tokenizer.decode(tokenizer.encode(line)) == line


def test_a_pair_of_models(tmp_path: Path) -> None:
    pair = own(tmp_path / "m.model", foreign(), foreign("bpe", 70))
    assert not pair.joint
    assert (pair.source.vocab_size, pair.target.vocab_size) == (61, 71)
    pair.save(tmp_path / "run")
    loaded = Tokenizers.load(tmp_path / "run")
    assert (loaded.source.kind.value, loaded.target.kind.value) == ("unigram", "bpe")
    assert loaded.identity == pair.identity


@pytest.mark.parametrize("layout", ["default", "ours"])
def test_the_text_of_special_pieces_is_only_text(tmp_path: Path, layout: str) -> None:
    """Also where the model itself would yield them."""
    model = foreign(user_defined_symbols="</s>,<s>", **LAYOUTS[layout])
    tokenizer = own(tmp_path / "m.model", model).source
    assert not {0, 2, 3} & set(tokenizer.encode("birds </s> sing <s>"))


@pytest.mark.parametrize(
    "content",
    [b"", b"the\t-1.5\nbirds\t-2\n", b'{"model": {"type": "BPE"}}', bytes(range(256)) * 40, None],
    ids=["empty", "vocabulary", "json", "bytes", "missing"],
)
def test_what_is_no_model_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "m.model"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=r"m\.model: .*expected the \.model file"):
        Tokenizers.own(TokenizerConfig(model=str(file)), ("en", "en"))


def test_a_missing_model_says_where_its_path_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=rf"^m\.model: no such file in {tmp_path}; expected"):
        Tokenizers.own(TokenizerConfig(model="m.model"), ("en", "en"))


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_a_truncated_model_is_refused_by_name(tmp_path: Path, part: float) -> None:
    model = foreign()
    (tmp_path / "m.model").write_bytes(model[: int(part * len(model))])
    with pytest.raises(DataError, match=r"m\.model: not a SentencePiece model"):
        Tokenizers.own(TokenizerConfig(model=str(tmp_path / "m.model")), ("en", "en"))


def test_the_content_of_the_model_decides_the_prepared_corpus(tmp_path: Path) -> None:
    data = corpus(tmp_path, sentences())
    names = []
    for name, model in (("a", foreign()), ("b", foreign()), ("c", foreign("bpe"))):
        (tmp_path / name).write_bytes(model)
        config = TokenizerConfig(model=str(tmp_path / name))
        prepared = prepare(data, config, progress=False)
        assert prepared.tokenizers.source.model == model
        assert Tokenizer.unk_id not in prepared.split("valid").src(0)
        names.append(prepared.folder.name)
    assert names[0] == names[1] != names[2]


# -- settings ---


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("kind", TokenizerKind.word),
        ("vocab_size", 500),
        ("joint", False),
        ("byte_fallback", True),
        ("character_coverage", 0.99),
        ("user_defined_symbols", "<url>"),
    ],
)
def test_settings_that_a_model_decides_are_refused(setting: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"tokenizer\.{setting}=.*tokenizer\.model=null"):
        replace(TokenizerConfig(model="m.model"), **{setting: value})


def test_a_model_brings_its_own_normal_form() -> None:
    for form in (NormalizationConfig(NormalForm.nfc), NormalizationConfig(target=NormalForm.none)):
        with pytest.raises(ValueError, match=r"normalization\..*: .*tokenizer\.model=null"):
            TokenizerConfig(normalization=form, model="m.model")
    kept = TokenizerConfig(normalization=NormalizationConfig(markup=False), model="m.model")
    assert not kept.normalization.markup


def test_a_targets_model_alone_is_refused() -> None:
    with pytest.raises(ValueError, match=r"tokenizer\.target_model=b: .*tokenizer\.model=FILE"):
        TokenizerConfig(target_model="b")
    assert TokenizerConfig(model="a").one_model
    assert TokenizerConfig(model="a", target_model="a").one_model
    assert not TokenizerConfig(model="a", target_model="b").one_model
