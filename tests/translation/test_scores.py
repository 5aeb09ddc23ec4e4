import pytest
import sacrebleu
from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import PairedTest, Result
from typed import present

from seq2seq.config.languages import bleu_tokenizer
from seq2seq.translation.scores import bleu_metric, paired_bootstrap, score


def test_tokenizer_follows_the_target_language() -> None:
    assert [bleu_tokenizer(x) for x in ("zh", "de", "en", "vi", "ja")] == [
        "zh",
        "13a",
        "13a",
        "13a",
        "ja-mecab",
    ]


def test_scores_equal_sacrebleu() -> None:
    hypotheses, references = (
        ["the cat sat on the mat .", "a dog barks"],
        ["the cat sat on a mat .", "the dog barks"],
    )
    scores = score(hypotheses, references, "13a")
    assert scores.bleu == sacrebleu.corpus_bleu(hypotheses, [references]).score
    assert scores.chrf == sacrebleu.corpus_chrf(hypotheses, [references]).score
    assert 0 < scores.bleu < 100
    assert "tok:13a" in scores.bleu_signature
    assert "chrF2" in scores.chrf_signature


@pytest.mark.parametrize(
    ("hypotheses", "is_smoothing"),
    [(["a b c x", "e f g x"], True), (["a b c x", "e f g h"], False), (["x", "y"], True)],
)
def test_without_four_right_tokens_in_a_row_bleu_is_smoothing(
    hypotheses: list[str], is_smoothing: bool
) -> None:
    assert score(hypotheses, ["a b c d", "e f g h"], "13a").is_smoothing is is_smoothing


@pytest.mark.parametrize(
    ("language", "text", "tokenizer"),
    [("zh", "我们在学校学习汉语。", "zh"), ("ja", "学校で勉強する。", "ja-mecab")],
)
def test_text_without_spaces_is_split(language: str, text: str, tokenizer: str) -> None:
    scores = score([text] * 2, [text] * 2, bleu_tokenizer(language))
    assert scores.bleu == pytest.approx(100)
    assert f"tok:{tokenizer}" in scores.bleu_signature


def test_counts_must_agree() -> None:
    with pytest.raises(ValueError, match="1 hypotheses for 2 references"):
        score(["a"], ["a", "b"], "13a")
    with pytest.raises(ValueError, match="0 references"):
        score([], [], "13a")


def test_paired_bootstrap_detects_a_difference() -> None:
    references = [f"this is sentence number {i} of the test set" for i in range(60)]
    one, other = (
        [r.replace(word, wrong) for r in references]
        for word, wrong in (("number", "numero"), ("test", "tset"))
    )
    worse = [r.replace("test", "tset") for r in one]
    alike = [(a if i % 2 else b) for i, (a, b) in enumerate(zip(one, other, strict=True))]
    shifted = [(b if i % 2 else a) for i, (a, b) in enumerate(zip(one, other, strict=True))]
    systems = {"alike": alike, "worse": worse, "shifted": shifted}
    signature, rows = paired_bootstrap(systems, [references], bleu_metric("13a"), samples=200)
    assert [r.name for r in rows] == ["alike", "worse", "shifted"]
    assert rows[0].p_value is None
    assert present(rows[1].p_value) < 0.01
    assert present(rows[2].p_value) > 0.05
    assert rows[1].score < rows[0].score
    assert "bs:200" in signature


@pytest.mark.parametrize("metric", [BLEU, CHRF, TER], ids=lambda metric: str(metric.__name__))
@pytest.mark.parametrize("seed", [None, "7"])
def test_paired_bootstrap_equals_sacrebleus_bit_for_bit(
    metric: type[Metric], seed: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three references of different lengths make TER's counts fractions."""
    if seed is not None:
        monkeypatch.setenv("SACREBLEU_SEED", seed)
    line = "the old captain of the small boat counts {} birds above the harbour"
    references = [
        [line.format(i) + " today" * (i % extra) for i in range(50)] for extra in (1, 2, 5)
    ]
    systems = {
        name: [r.replace(word, wrong) if i % part else r for i, r in enumerate(references[0])]
        for name, word, wrong, part in (("a", "old", "odd", 3), ("b", "birds", "", 4))
    }
    systems["c"] = [r.replace("small ", "") for r in systems["a"]]
    signatures, theirs = PairedTest(
        list(systems.items()), {"": metric()}, references, test_type="bs", n_samples=300
    )()
    [(name, signature)] = signatures.items()
    results = [each for each in theirs[name] if isinstance(each, Result)]
    ours, rows = paired_bootstrap(systems, references, metric(), samples=300)
    assert ours == str(signature)
    assert [(r.score, r.mean, r.interval, r.p_value) for r in rows] == [
        (r.score, r.mean, r.ci, r.p_value) for r in results
    ]
