"""Any text passes through clean-up, tokenizer, preparation and search, or is refused by name."""

import math
from pathlib import Path

import pytest
import torch
from any_text import (
    ENDS,
    LINES,
    MEMBERS,
    MOST,
    PACKERS,
    long_lines,
    packed,
    profile,
)
from composing import composed
from corpus_files import write
from hypothesis import example, given
from hypothesis import strategies as st

from seq2seq.config import (
    Config,
    DataConfig,
    DecodeConfig,
    ModelConfig,
    TokenizerConfig,
    TokenizerKind,
)
from seq2seq.data.normalization import Normalization
from seq2seq.data.preparation import prepare
from seq2seq.data.text import read_lines
from seq2seq.data.tokenizer import Tokenizer, Tokenizers
from seq2seq.errors import DataError
from seq2seq.model import Translator
from seq2seq.rnn import NormConfig, NormKind
from seq2seq.runs.folder import Run
from seq2seq.training.loop import train
from seq2seq.translation.lines import Session
from seq2seq.translation.loading import build_translator

KINDS = [kind.value for kind in TokenizerKind]
SENTENCES = [f"the small dog number {i} sees a cat" for i in range(40)]
ANY = st.one_of(LINES, LINES, long_lines(MOST))


@pytest.fixture(scope="module", params=[*KINDS, "bpe bytes", "unigram bytes"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """Return a tokenizer of each kind; those with bytes know every character."""
    kind, _, fallback = request.param.partition(" ")
    config = TokenizerConfig(TokenizerKind[kind], 33 + 256 * bool(fallback))
    config.byte_fallback = bool(fallback)
    return Tokenizer.train(SENTENCES, config, "en")


@profile(40, 60)
@given(line=ANY)
@example(line="\u0316\u0301" * (MOST // 2))
@example(line="&amp;" * (MOST // 5))
@example(line="&" + "amp;" * (MOST // 4))
def test_any_line_is_encoded_and_comes_back(tokenizer: Tokenizer, line: str) -> None:
    ids = tokenizer.encode(line)
    assert all(0 <= i < tokenizer.vocab_size for i in ids)
    assert not {tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id} & set(ids)
    assert tokenizer.unk_id not in ids or tokenizer.vocab_size < 256
    if tokenizer.unk_id not in ids:
        plain = tokenizer.normalise(line)
        assert tokenizer.decode(ids) == plain
        assert tokenizer.encode(plain) == ids
    assert bool(ids) == bool(tokenizer.normalise(line))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("properties")


@profile(25, 20)
@given(
    st.lists(st.tuples(ANY, ANY), max_size=5),
    st.sampled_from(KINDS),
    st.booleans(),
    ENDS,
    st.sampled_from(sorted(PACKERS)),
    MEMBERS,
)
def test_any_text_is_prepared_or_refused_by_name(
    folder: Path,
    pairs: list[tuple[str, str]],
    kind: str,
    joint: bool,
    end: str,
    packer: str,
    cuts: list[int],
) -> None:
    """The normal sentences among it are always kept."""
    named = [(line, line.upper()) for line in SENTENCES]
    data = DataConfig(name="any", root=str(folder / "prepared"), source_language="und")
    data.target_language = "und"
    for name, split in (("train", data.train), ("valid", data.valid)):
        for side in (0, 1):
            text = "".join(f"{pair[side]}{end}" for pair in [*pairs, *named])
            path = str(write(folder / f"{name}.{side}", packed(text.encode(), packer, cuts)))
            setattr(split, ("source", "target")[side], path)
    characters = {c for pair in pairs for line in pair for c in line}
    config = TokenizerConfig(TokenizerKind[kind], 60 + 3 * len(characters), joint)
    refused = ""
    try:
        prepared = prepare(data, config, progress=False)
    except DataError as error:
        refused = str(error)
    if refused:
        assert refused.startswith("tokenizer.vocab_size="), refused
        return
    train, valid = prepared.manifest.splits["train"], prepared.manifest.splits["valid"]
    assert train.pairs == valid.pairs == valid.kept == len(pairs) + len(named)
    assert train.kept + sum(train.dropped.values()) == train.pairs
    assert train.kept >= len(named)
    lines = prepared.split("valid").lines("source")
    assert lines[1:] == [src for src, _ in [*pairs, *named]][1:]


# -- training ---


@profile(6, 12)
@given(
    pairs=st.lists(st.tuples(ANY, ANY), max_size=4),
    kind=st.sampled_from(KINDS),
    packer=st.sampled_from(sorted(PACKERS)),
    suffix=st.sampled_from(sorted(PACKERS)),
)
@example(pairs=[("雨" * 20_000, "雪" * 20_000)], kind="char", packer="plain", suffix="plain")
def test_any_text_is_trained_on_or_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory,
    pairs: list[tuple[str, str]],
    kind: str,
    packer: str,
    suffix: str,
) -> None:
    """One update, validation, and the test set's translation: a line for each line."""
    folder = tmp_path_factory.mktemp("training")
    both = [*pairs, *((line, line.upper()) for line in SENTENCES)]
    files = []
    for split in ("train", "valid", "test"):
        for i, side in enumerate(("source", "target")):
            text = "".join(f"{pair[i]}\n" for pair in both).encode()
            path = write(folder / f"{split}{i}.{suffix}", packed(text, packer, []))
            files.append(f"data.{split}.{side}={path}")
    size = 60 + 3 * len({c for pair in pairs for line in pair for c in line})
    asked = ["data=files", "data.name=any", f"data.root={folder / 'prepared'}", "model=tiny"]
    asked += ["data.source_language=und", "data.target_language=und", f"tokenizer={kind}"]
    asked += [f"tokenizer.vocab_size={size}", "decode.beam_size=1", "decode.max_length=5"]
    asked += ["trainer.max_updates=1", "trainer.validate_every=1", "trainer.threads=1"]
    run, refused = Run(folder / "run"), ""
    try:
        results = train(composed(*files, *asked, "trainer.progress=false"), run)
    except DataError as error:
        refused = str(error)
    if refused:
        assert refused.startswith("tokenizer.vocab_size="), refused
        return
    assert math.isfinite(results["valid_loss"])
    for split in ("valid", "test"):
        assert len(list(read_lines(run.translations / f"{split}.txt"))) == len(both)


# -- search ---


@pytest.fixture(scope="module")
def translator() -> tuple[Translator, Tokenizers]:
    torch.manual_seed(1)
    config = Config(
        norm=NormConfig(NormKind.layer),
        model=ModelConfig(8, 8),
        data=DataConfig(source_language="en", target_language="de"),
        tokenizer=TokenizerConfig(TokenizerKind.char, 40),
    )
    tokenizers = Tokenizers.train((SENTENCES, SENTENCES), config.tokenizer, ("en", "de"))
    return build_translator(config, tokenizers).eval(), tokenizers


@profile(15, 200)
@given(lines=st.lists(st.one_of(LINES, long_lines(MOST // 10)), max_size=5), beam=st.integers(1, 3))
@example(lines=["a b" * (MOST // 3), ""], beam=1)
def test_any_line_is_translated_into_one_line(
    translator: tuple[Translator, Tokenizers], lines: list[str], beam: int
) -> None:
    model, tokenizers = translator
    decode = DecodeConfig(beam_size=beam, max_length="8", replace_unk=True)
    with torch.inference_mode():
        found = Session(model, tokenizers, decode).translate(lines)
    assert len(found) == len(lines)
    for line, [best, *_] in zip(lines, found, strict=True):
        assert "\n" not in best.text
        assert len(best.text.splitlines()) <= 1
        if not tokenizers.source.normalise(line):
            assert best.text == ""


@profile(60, 60)
@given(line=ANY, language=st.sampled_from(["en", "zh", "ja", "he"]))
def test_normalising_twice_is_normalising_once(line: str, language: str) -> None:
    how = Normalization(language)
    once = how(line)
    assert how(once) == once
