"""Embeddings, and the table of input terms that a search keeps."""

import threading
from contextlib import nullcontext

import pytest
import torch
from kernel_cases import needs_compiler
from search_cases import NORMS, sentences, translator
from torch import Tensor

from seq2seq.config import DecodeConfig
from seq2seq.model.embedding import Embedding, InputTerms
from seq2seq.rnn import LSTM, RecurrentLayers, frozen
from seq2seq.translation.search import search_in_batches

WORDS = 12
ROW = 2 * 4 * 8 * 4
"""Bytes of a row: two directions, four gates, eight features of four bytes."""


@pytest.fixture
def both() -> tuple[Embedding, RecurrentLayers]:
    torch.manual_seed(0)
    return Embedding(WORDS, 5).eval(), LSTM(5, 8, bidirectional=True, norm="layer").eval()


def read(embedding: Embedding, layer: RecurrentLayers, ids: Tensor) -> Tensor:
    """Return the input terms that a layer reads of words."""
    places, table = embedding.inputs(ids, layer)
    assert table is not None
    return table[places]


def expected(embedding: Embedding, layer: RecurrentLayers, ids: Tensor) -> Tensor:
    return layer.project(embedding(ids))


@needs_compiler
@pytest.mark.parametrize("rows", [WORDS, 4, 3, 1])
def test_rows_are_those_of_the_layer_whatever_fits(
    monkeypatch: pytest.MonkeyPatch, both: tuple[Embedding, RecurrentLayers], rows: int
) -> None:
    """A new table begins when one is full, and serves no batch of more words than it holds."""
    monkeypatch.setattr("seq2seq.model.embedding.MOST_BYTES", ROW * rows)
    embedding, layer = both
    with torch.no_grad(), frozen(embedding, layer):
        for ids in ([1, 2, 1], [3, 1, 1, 3], [4, 5], [2, 2, 2, 2], [11, 10, 9, 8, 7], [8, 0], [1]):
            words = torch.tensor(ids)
            assert torch.equal(read(embedding, layer, words), expected(embedding, layer, words))


@needs_compiler
def test_a_word_is_multiplied_once(
    monkeypatch: pytest.MonkeyPatch, both: tuple[Embedding, RecurrentLayers]
) -> None:
    embedding, layer = both
    asked: list[int] = []
    project = LSTM.project

    def watching(layer: LSTM, rows: Tensor) -> Tensor:
        asked.append(len(rows))
        return project(layer, rows)

    monkeypatch.setattr(LSTM, "project", watching)
    with torch.no_grad(), frozen(embedding, layer):
        for ids in ([1, 2, 1, 7], [7, 3, 1], [1, 2, 3]):
            embedding.inputs(torch.tensor(ids), layer)
    assert asked == [3, 1]


@needs_compiler
def test_words_are_kept_in_eval_mode_within_frozen_alone(
    both: tuple[Embedding, RecurrentLayers],
) -> None:
    embedding, layer = both
    ids = torch.tensor([3, 1])

    def projected() -> bool:
        found, table = embedding.inputs(ids, layer)
        assert table is not None or torch.equal(found, embedding(ids))
        return table is not None

    assert not projected()
    with frozen(embedding, layer):
        assert not projected()  # gradients
        with torch.no_grad():
            assert projected()
            wider = LSTM(6, 8, norm="layer").eval()  # as with input feeding
            with frozen(wider):
                assert embedding.inputs(ids, wider)[1] is None
            embedding.train()
            assert not projected()
    with torch.no_grad():
        assert not projected()
    layer.backend = "reference"
    embedding.eval()
    with torch.no_grad(), frozen(embedding, layer):
        assert not projected()


@needs_compiler
def test_each_type_of_products_has_a_table(both: tuple[Embedding, RecurrentLayers]) -> None:
    embedding, layer = both
    ids = torch.tensor([3, 1])
    with torch.no_grad(), frozen(embedding, layer):
        for low in (False, True, False):
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                found = read(embedding, layer, ids)
                assert torch.equal(found, expected(embedding, layer, ids))


@needs_compiler
def test_a_table_is_filled_in_and_outside_of_inference_mode(
    both: tuple[Embedding, RecurrentLayers],
) -> None:
    embedding, layer = both
    with torch.no_grad(), frozen(embedding, layer):
        for ids in ([1, 2], [2, 3], [4]):
            words = torch.tensor(ids)
            with torch.inference_mode() if len(ids) > 1 else nullcontext():
                found = read(embedding, layer, words)
            assert torch.equal(found, expected(embedding, layer, words))


@needs_compiler
def test_threads_share_a_table(
    monkeypatch: pytest.MonkeyPatch, both: tuple[Embedding, RecurrentLayers]
) -> None:
    monkeypatch.setattr("seq2seq.model.embedding.MOST_BYTES", ROW * 4)
    embedding, layer = both
    wrong: list[Tensor] = []

    def draw(seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for _ in range(200):
                ids = torch.randint(0, WORDS, (3,), generator=generator)
                if not torch.equal(read(embedding, layer, ids), expected(embedding, layer, ids)):
                    wrong.append(ids)

    with frozen(embedding, layer):
        threads = [threading.Thread(target=draw, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


@needs_compiler
@pytest.mark.parametrize("feeding", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_no_bit_of_a_translation_depends_on_the_table(
    monkeypatch: pytest.MonkeyPatch, norm: str, feeding: bool
) -> None:
    model, config = translator(NORMS[norm], input_feeding=feeding), DecodeConfig(beam_size=3)

    def found() -> list[list[tuple[list[int], float]]]:
        translations = dict(search_in_batches(model, sentences(), config, 2))
        return [[(h.ids, h.log_prob) for h in translations[i]] for i in range(len(translations))]

    reads = watched(monkeypatch)
    with_table = found()
    layers = (
        {model.encoder.layers[0]}
        if feeding
        else {m.layers[0] for m in (model.encoder, model.decoder)}
    )
    assert set(reads) == layers
    monkeypatch.setattr(Embedding, "_terms", lambda *_: None)
    assert found() == with_table


def watched(monkeypatch: pytest.MonkeyPatch) -> list[RecurrentLayers]:
    """Return the layers whose tables are read."""
    layers: list[RecurrentLayers] = []
    read = InputTerms.read

    def reading(table: InputTerms, ids: Tensor) -> tuple[Tensor, Tensor]:
        layers.append(table.layer)
        return read(table, ids)

    monkeypatch.setattr(InputTerms, "read", reading)
    return layers


@needs_compiler
@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize("kind", ["dropout", "word_dropout"])
def test_dropout_is_of_the_vectors_of_words_within_frozen_too(norm: str, kind: str) -> None:
    """As the loss of training is measured: the translator alone is in training mode."""
    model = translator(NORMS[norm], **{kind: 0.4})  # type: ignore[arg-type]
    src, tgt = torch.randint(4, 30, (5, 7)), torch.randint(4, 40, (5, 6))
    lengths = torch.tensor([7, 7, 5, 3, 1]), torch.tensor([6, 6, 4, 2, 1])
    model.training = True

    def loss() -> Tensor:
        torch.manual_seed(4)
        found: Tensor = model(src, lengths[0], tgt, lengths[1])
        return found

    with torch.no_grad():
        expected = loss()
        with frozen(model):
            torch.testing.assert_close(loss(), expected)
