"""scripts/score.py: the log-probability of given translations, against the model's own steps."""

import json
import math
from pathlib import Path

import pytest
import torch
from conftest import final_results
from runs import Command, Runs, Script

from seq2seq.app.score import summary
from seq2seq.data.batches import Batch
from seq2seq.data.tokenizer import Tokenizers
from seq2seq.model import Translator
from seq2seq.runs.folder import Run
from seq2seq.translation import likelihood
from seq2seq.translation.likelihood import Likelihood
from seq2seq.translation.loading import load_translator

pytest_plugins = ["run_fixtures"]

SOURCE = ["one dogs see two cats", "", "three birds like four dogs", "five cats find one birds"]
TARGET = ["一狗看见二猫。", "二猫", "", "五猫找到一鸟。五猫找到一鸟。龙"]
"""Right, for an empty source, empty, and too long with an unknown character."""


@pytest.fixture
def scoring(script: Script) -> Command:
    return script("score")


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for name, lines in (("source", SOURCE), ("target", TARGET)):
        text = "".join(line + "\n" for line in lines)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return ["--source", str(tmp_path / "source"), "--target", str(tmp_path / "target")]


@torch.no_grad()
def by_steps(model: Translator, tokenizers: Tokenizers, src: str, tgt: str) -> tuple[float, int]:
    """Return the log-probability and the length of one translation, word by word."""
    tokenizer = tokenizers.target
    ids = torch.tensor([[*tokenizers.source.encode(src), tokenizer.eos_id]])
    memory, state = model.encode(ids, torch.tensor([ids.size(1)]))
    total, previous, words = 0.0, tokenizer.bos_id, [*tokenizer.encode(tgt), tokenizer.eos_id]
    for word in words:
        logits, state, _ = model.step(torch.tensor([previous]), state, memory)
        total, previous = total + logits.log_softmax(dim=1)[0, word].item(), word
    return total, len(words)


def test_each_line_is_what_the_steps_of_the_model_give(
    two_runs: Runs, scoring: Command, files: list[str], tmp_path: Path
) -> None:
    for run in (two_runs.none, two_runs.layer):
        model, tokenizers = load_translator(Run(run), torch.device("cpu"))
        expected = [by_steps(model, tokenizers, *pair) for pair in zip(SOURCE, TARGET, strict=True)]
        done = scoring(run, *files, "--json", tmp_path / "a.json")
        assert done.code == 0, done.err
        printed = [line.split("\t") for line in done.out.splitlines()]
        assert [int(length) for _, length in printed] == [length for _, length in expected]
        found = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
        totals = [total for total, _ in expected]
        assert [line["log_probability"] for line in found["lines"]] == pytest.approx(
            totals, rel=1e-5
        )
        assert [float(figure) for figure, _ in printed] == pytest.approx(totals, abs=1e-3)
        tokens = sum(length for _, length in expected)
        assert (found["sentences"], found["tokens"], found["unknown"]) == (4, tokens, 1)
        assert found["perplexity"] == pytest.approx(math.exp(-sum(totals) / tokens), rel=1e-5)
        assert done.err.strip().endswith(
            f"perplexity {found['perplexity']:.4f} over {tokens} tokens, 1 of them <unk> in 4"
            " lines; each line's end counts as a token"
        )


def test_the_batch_size_does_not_matter(
    two_runs: Runs, scoring: Command, files: list[str], tmp_path: Path
) -> None:
    found = []
    for size in (1, 3, 64):
        done = scoring(two_runs.layer, *files, "--batch-size", size, "--json", tmp_path / "a.json")
        assert done.code == 0, done.err
        lines = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["lines"]
        found.append([line["log_probability"] for line in lines])
    assert found[1] == pytest.approx(found[0], rel=1e-5)
    assert found[2] == pytest.approx(found[0], rel=1e-5)


def test_so_many_sentences_are_scored_together(
    two_runs: Runs, scoring: Command, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def noted(model: Translator, batch: Batch) -> torch.Tensor:
        sizes.append(len(batch.src))
        return log_probabilities(model, batch)

    sizes: list[int] = []
    log_probabilities = likelihood.log_probabilities
    monkeypatch.setattr(likelihood, "log_probabilities", noted)
    assert scoring(two_runs.layer, *files, "--batch-size", 3).code == 0
    assert sorted(sizes) == [1, 3]


def test_totals_are_sums_over_the_lines() -> None:
    lines = [Likelihood(-1.0, 3, 2), Likelihood(-2.5, 4, 0), Likelihood(0.0, 1, 1)]
    totals = summary(lines)
    assert totals.pop("perplexity") == pytest.approx(math.exp(3.5 / 8))
    assert totals == {"sentences": 3, "tokens": 8, "unknown": 3, "log_probability": -3.5}


def test_the_perplexity_of_a_useless_model_is_finite() -> None:
    assert summary([Likelihood(-1e6, 2, 0)])["perplexity"] == math.exp(100)


def test_a_right_translation_is_the_likelier_one(
    two_runs: Runs, scoring: Command, tmp_path: Path
) -> None:
    (tmp_path / "s").write_text("one dogs see two cats\n" * 2, encoding="utf-8")
    (tmp_path / "t").write_text("一狗看见二猫。\n二猫看见一狗。\n", encoding="utf-8")
    done = scoring(two_runs.layer, "--source", tmp_path / "s", "--target", tmp_path / "t")
    right, wrong = (float(line.split("\t")[0]) for line in done.out.splitlines())
    assert 0 > right > -1
    assert wrong < right - 5


def test_the_perplexity_of_valid_is_that_of_training(
    two_runs: Runs, scoring: Command, tmp_path: Path
) -> None:
    valid = two_runs.data.valid
    named = ["--source", valid.source, "--target", valid.target]
    assert scoring(two_runs.none, *named, "--json", tmp_path / "a.json").code == 0
    found = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    results = final_results(Run(two_runs.none))
    assert math.log(found["perplexity"]) == pytest.approx(results["valid_loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "the following arguments are required: --source, --target"),
        (["--source", "two", "--target", "one"], "two has 2 lines, {tmp}/one has 1; expected"),
        (["--source", "one", "--target", "two"], "one has 1 line, {tmp}/two has 2; expected"),
        (["--source", "no", "--target", "one"], "no: no such file"),
        (["--source", "one", "--target", "one", "--batch-size", "0"], "--batch-size 0: expected"),
    ],
)
def test_what_does_not_fit_is_named(
    options: list[str], message: str, two_runs: Runs, scoring: Command, tmp_path: Path
) -> None:
    (tmp_path / "one").write_text("a\n", encoding="utf-8")
    (tmp_path / "two").write_text("a\nb\n", encoding="utf-8")
    named = [o if o.startswith("--") or o == "0" else str(tmp_path / o) for o in options]
    done = scoring(two_runs.none, *named)
    assert (done.code, done.out) == (2, "")
    assert message.format(tmp=tmp_path) in done.err


def test_help_says_what_is_counted(scoring: Command) -> None:
    done = scoring("--help")
    assert done.code == 0
    for part in ("--source FILE", "--target FILE", "--json FILE", "--batch-size N", "--device"):
        assert part in done.out
    assert "count the symbol that ends a sentence" in " ".join(done.out.split())
