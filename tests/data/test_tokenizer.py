import json
import random
from pathlib import Path
from typing import Any

import pytest

from seq2seq.config import NormalForm, NormalizationConfig, TokenizerConfig, TokenizerKind
from seq2seq.data.normalization import Normalization
from seq2seq.data.tokenizer import Tokenizer, Tokenizers
from seq2seq.errors import DataError
from seq2seq.stored import write_checked_json

KINDS = list(TokenizerKind)
PLAIN = NormalizationConfig(NormalForm.none, NormalForm.none)
ENGLISH = [
    "the happy dog walks home",
    "an unlucky cat walks slowly",
    "kindness is happiness",
    "the dog is unkind",
    "walking home makes the cat happy",
    "unlucky dogs walk slowly home",
    "she is happy , is she ?",
]
CHINESE = [
    "我喜欢学习。",
    "你喜欢苹果吗？",
    "他每天学习中文，我也学习。",
    "苹果很好吃！",
    "我们都喜欢他。",
]


def english(count: int = 200) -> list[str]:
    chance = random.Random(3)
    words = sorted({word for line in ENGLISH for word in line.split()})
    return ENGLISH + [" ".join(chance.choices(words, k=chance.randint(3, 8))) for _ in range(count)]


def train(
    kind: str | TokenizerKind = "bpe",
    size: int = 70,
    lines: list[str] | None = None,
    language: str = "en",
    **options: Any,
) -> Tokenizer:
    return Tokenizer.train(
        english() if lines is None else lines,
        TokenizerConfig(TokenizerKind(kind), size, **options),
        language,
    )


@pytest.mark.parametrize("kind", ["bpe", "unigram", "char", "word"])
def test_decoding_restores_the_text_and_pieces_match_ids(kind: str) -> None:
    tokenizer = train(kind, 40)
    assert tokenizer.vocab_size <= 40
    for line in ENGLISH:
        ids = tokenizer.encode(line)
        pieces = [tokenizer.id_to_piece(i) for i in ids]
        assert pieces == [("▁" if kind == "word" else "") + p for p in tokenizer.pieces(line)]
        assert Tokenizer.unk_id not in ids
        assert tokenizer.decode(ids) == line
    assert tokenizer.encode("") == tokenizer.encode(" \t ") == []
    assert tokenizer.decode([]) == ""


def test_the_special_ids_are_fixed_and_never_come_from_text() -> None:
    tokenizer = train()
    assert [tokenizer.id_to_piece(i) for i in range(4)] == ["<pad>", "<unk>", "<s>", "</s>"]
    ids = tokenizer.encode("<pad> <s> the dog </s>")
    assert not {Tokenizer.pad_id, Tokenizer.bos_id, Tokenizer.eos_id} & set(ids)
    assert Tokenizer.unk_id in tokenizer.encode("ψ")
    assert "⁇" in tokenizer.decode([Tokenizer.unk_id])


def test_bpe_splits_a_rare_word_into_pieces_that_join_to_it() -> None:
    tokenizer = train("bpe", 60)
    assert not any("unhappiness" in line for line in english())
    pieces = tokenizer.pieces("unhappiness")
    assert len(pieces) > 1
    assert "".join(pieces) == "▁unhappiness"
    assert tokenizer.decode(tokenizer.encode("unhappiness")) == "unhappiness"
    assert len(tokenizer.pieces("kindness")) < len("kindness")


def test_the_char_tokenizer_gives_single_characters() -> None:
    assert train("char").pieces("the dog") == ["▁", "t", "h", "e", "▁", "d", "o", "g"]


def test_chinese_words_are_found_and_written_without_spaces() -> None:
    tokenizer = train("word", 100, CHINESE, "zh")
    assert tokenizer.pieces("我喜欢学习") == ["我", "喜欢", "学习"]
    assert tokenizer.decode(tokenizer.encode("他喜欢苹果。")) == "他喜欢苹果。"
    other = train("word", 100, ["我 喜欢"], "en")  # text of another language is not changed
    assert other.decode(other.encode("我 喜欢")) == "我 喜欢"


@pytest.mark.parametrize("kind", ["bpe", "unigram", "char", "word"])
def test_chinese_punctuation_agrees_with_the_reference(kind: str) -> None:
    tokenizer = train(kind, 32 if kind == "unigram" else 45, CHINESE * 20, "zh")
    for line in CHINESE:
        ids = tokenizer.encode(line)
        assert Tokenizer.unk_id not in ids
        assert tokenizer.decode(ids) == line


def test_nfkc_can_be_turned_off() -> None:
    lines = ["ｆｕｌｌ width", *english()]
    assert train(lines=lines).pieces("ｆｕｌｌ") == train(lines=lines).pieces("full")
    plain = train("char", 80, lines, normalization=PLAIN)
    assert plain.decode(plain.encode("ｆｕｌｌ")) == "ｆｕｌｌ"


def test_byte_fallback_spells_unseen_characters_in_bytes() -> None:
    tokenizer = train(size=330, byte_fallback=True)
    ids = tokenizer.encode("dog ψ 狗")
    assert Tokenizer.unk_id not in ids
    assert tokenizer.decode(ids) == "dog ψ 狗"


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_vocabulary_that_is_too_large_names_the_largest_one(kind: str) -> None:
    complaint = r"tokenizer\.vocab_size=5000: the training text \(en\) supports at most"
    with pytest.raises(DataError, match=complaint) as error:
        train(kind, 5000)
    largest = int(str(error.value).split("at most ")[1].split()[0])
    assert train(kind, largest).vocab_size == largest
    with pytest.raises(DataError, match=f"at most {largest} "):
        train(kind, largest + 1)


@pytest.mark.parametrize(("kind", "size"), [("char", 8000), ("word", 8000)])
def test_char_and_word_vocabularies_may_be_smaller_than_asked_for(kind: str, size: int) -> None:
    assert train(kind, size).vocab_size < 60
    assert train(kind, 10).vocab_size == 10


def test_too_small_a_vocabulary_and_no_text_are_refused() -> None:
    with pytest.raises(ValueError, match="expected at least 5"):
        train(size=4)
    with pytest.raises(
        DataError, match=r"too few for the characters .* expected at least"
    ) as error:
        train(size=10)
    assert train(size=int(str(error.value).rpartition(" ")[2])).vocab_size > 10
    for lines in ([], ["", " "]):
        with pytest.raises(DataError, match="empty"):
            train(lines=lines)


@pytest.mark.parametrize("kind", ["bpe", "unigram", "char", "word"])
def test_training_is_deterministic(kind: str) -> None:
    assert train(kind, 40).model == train(kind, 40).model


# -- files ---


def test_a_tokenizer_is_saved_with_a_readable_vocabulary(tmp_path: Path) -> None:
    tokenizer = train("word", 50, CHINESE, "zh", normalization=PLAIN)
    Tokenizers(tokenizer, tokenizer, joint=True).save(tmp_path)
    again = Tokenizers.load(tmp_path).target
    assert (again.kind, again.language) == (TokenizerKind.word, "zh")
    assert again.normalization == tokenizer.normalization == Normalization("zh", NormalForm.none)
    assert again.encode(CHINESE[0]) == tokenizer.encode(CHINESE[0])
    vocabulary = (tmp_path / "tokenizer.vocab").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[0] for line in vocabulary] == [
        again.id_to_piece(i) for i in range(again.vocab_size)
    ]


@pytest.mark.parametrize("joint", [True, False])
def test_a_pair_of_tokenizers_is_saved_and_loaded(tmp_path: Path, joint: bool) -> None:
    pair = Tokenizers.train(
        (english(), CHINESE * 3),
        TokenizerConfig(vocab_size=100 if joint else 50, joint=joint),
        ("en", "zh"),
    )
    assert (pair.source.model == pair.target.model) is joint
    pair.save(tmp_path)
    models = sorted(path.name for path in tmp_path.glob("*.model"))
    assert models == (
        ["tokenizer.model"] if joint else ["tokenizer.source.model", "tokenizer.target.model"]
    )
    again = Tokenizers.load(tmp_path)
    assert again.joint is joint
    assert (again.source.language, again.target.language) == ("en", "zh")
    for line, one, other in (
        (ENGLISH[0], again.source, pair.source),
        (CHINESE[1], again.target, pair.target),
    ):
        assert one.encode(line) == other.encode(line)
        assert one.decode(one.encode(line)) == line


def saved(folder: Path) -> Path:
    Tokenizers.train((english(), english()), TokenizerConfig(vocab_size=60), ("en", "de")).save(
        folder
    )
    return folder / "tokenizer.model"


@pytest.mark.parametrize("length", [0, 10, 185, -1, -20])
def test_a_truncated_model_is_refused_by_name(tmp_path: Path, length: int) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match=r"tokenizer\.model: damaged tokenizer"):
        Tokenizers.load(tmp_path)


def test_another_tokenizers_model_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    path.write_bytes(train(size=50).model)
    both = r"tokenizer\.model: damaged tokenizer \(SHA-256 is \w+, expected \w+ by tokenizer\.json"
    with pytest.raises(DataError, match=both):
        Tokenizers.load(tmp_path)


def test_a_model_with_other_special_ids_is_refused(tmp_path: Path) -> None:
    import io

    from sentencepiece import SentencePieceTrainer

    buffer = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(english()), model_writer=buffer, vocab_size=40, minloglevel=2
    )
    path = saved(tmp_path)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match=r"tokenizer\.model: damaged tokenizer .*SHA-256 is"):
        Tokenizers.load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "syllable"},
        {"kind": None},
        {"source_language": 7},
        {"normalization": ...},
        {"normalization": {"source": "nfkc", "target": "nfd", "markup": True}},
        {"normalization": {"source": "nfkc", "target": "nfc"}},
    ],
)
def test_damaged_settings_are_refused_by_name(tmp_path: Path, change: dict[str, Any]) -> None:
    saved(tmp_path)
    file = tmp_path / "tokenizer.json"
    settings = json.loads(file.read_text()) | change
    found = {key: value for key, value in settings.items() if value is not ...}
    file.write_text(json.dumps(found))
    with pytest.raises(DataError, match=r"tokenizer\.json: damaged \(its checksum is"):
        Tokenizers.load(tmp_path)
    del found["checksum"]
    for write in (
        lambda: file.write_text(json.dumps(found)),
        lambda: write_checked_json(file, found),
    ):
        write()
        with pytest.raises(DataError, match=r"tokenizer\.json: damaged tokenizer"):
            Tokenizers.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "by"), [("tokenizer.json", ""), ("tokenizer.model", ", which tokenizer.json names")]
)
def test_a_missing_file_is_named(tmp_path: Path, name: str, by: str) -> None:
    saved(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=f"{name}: no such tokenizer{by}; "):
        Tokenizers.load(tmp_path)


def test_settings_that_are_not_json_are_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    for text in (b"{", b"[1]", b"\xff"):
        (tmp_path / "tokenizer.json").write_bytes(text)
        with pytest.raises(DataError, match=r"tokenizer\.json: damaged \("):
            Tokenizers.load(tmp_path)


def test_a_tokenizer_can_be_pickled() -> None:
    import pickle

    tokenizer = train()
    assert pickle.loads(pickle.dumps(tokenizer)).encode(ENGLISH[0]) == tokenizer.encode(ENGLISH[0])
