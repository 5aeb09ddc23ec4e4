"""Worked examples depend only on the test set, and are stored with their attention."""

from pathlib import Path

import numpy as np
import pytest
import torch
from runs import Runs
from typed import present

from seq2seq.runs.examples import (
    WITH_ATTENTION,
    WorkedExample,
    chosen,
    read_examples,
    read_lines,
    write_examples,
    write_lines,
)
from seq2seq.runs.folder import Run
from seq2seq.translation.attention import attention_map
from seq2seq.translation.loading import load_translator

pytest_plugins = ["run_fixtures"]


def test_sentences_are_chosen_by_length() -> None:
    lines = ["x" * n for n in (9, 3, 1, 7, 5, 2, 8, 4, 6, 10)]
    assert [len(lines[i]) for i in chosen(lines)] == [2, 4, 6, 8, 10]
    assert chosen(["a"]) == [0] * 5
    assert chosen([]) == []


def test_all_runs_show_the_same_sentences(two_runs: Runs) -> None:
    none, layer = (read_examples(f / "translations") for f in (two_runs.none, two_runs.layer))
    assert [e.index for e in none] == [e.index for e in layer] == chosen(two_runs.sources)
    assert [e.source for e in none] == [two_runs.sources[e.index] for e in none]
    assert [e.reference for e in none] == [two_runs.references[e.index] for e in none]


def test_a_run_stores_its_test_text(two_runs: Runs) -> None:
    folder = two_runs.layer / "translations"
    assert read_lines(folder / "test.source.txt") == two_runs.sources
    assert read_lines(folder / "test.reference.txt") == two_runs.references
    translations = read_lines(folder / "test.txt")
    assert [e.translation for e in read_examples(folder)] == [
        translations[i] for i in chosen(two_runs.sources)
    ]


def test_the_stored_attention_equals_that_of_the_best_checkpoint(two_runs: Runs) -> None:
    model, tokenizers = load_translator(Run(two_runs.layer), torch.device("cpu"))
    for number, example in enumerate(read_examples(two_runs.layer / "translations")):
        if number not in WITH_ATTENTION:
            assert not example.attention
            assert example.source_pieces == example.target_pieces == []
            continue
        found = attention_map(model, tokenizers, example.source, example.translation)
        weights, source, target = present(found)
        assert (example.source_pieces, example.target_pieces) == (source, target)
        assert np.array(example.attention) == pytest.approx(weights.numpy(), abs=1e-4)


def test_examples_are_read_as_they_were_written(tmp_path: Path) -> None:
    found = [WorkedExample(3, "a", "b", "c", ["a"], ["c", "</s>"], [[0.25], [1.0]])]
    write_examples(tmp_path, found)
    assert read_examples(tmp_path) == found
    assert read_examples(tmp_path / "none") == []
    (tmp_path / "examples.json").write_text("[")
    with pytest.raises(ValueError, match=r"examples\.json: damaged"):
        read_examples(tmp_path)


def test_lines_keep_every_character(tmp_path: Path) -> None:
    lines = ["a\u2028b", "", "c\rd\x85e", "中文"]
    write_lines(tmp_path / "text", lines)
    assert read_lines(tmp_path / "text") == lines
    assert read_lines(tmp_path / "none") == []
