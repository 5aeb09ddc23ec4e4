"""Exported networks: onnxruntime computes what the model computes, for all sizes of batches."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from seq2seq.config import (
    Attention,
    CellConfig,
    CellKind,
    DecodeConfig,
    ModelConfig,
    Nonlinearity,
    length_limit,
)
from seq2seq.model import Translator, Vocabulary
from seq2seq.rnn import NormConfig, NormKind, Statistics
from seq2seq.translation.search import search_in_batches

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("onnxscript", reason="the extra onnx is not installed")

from seq2seq.export import networks  # noqa: E402
from seq2seq.export.example import Translator as Example  # noqa: E402
from seq2seq.export.graphs import joined  # noqa: E402

SRC, TGT, LONGEST = 19, 23, 7
SHAPES = [(3, 5), (1, 1), (7, 9), (1, 12), (2, 1)]
"""Sentences and source steps; batch norm has statistics of 7 steps."""
SLOW = pytest.mark.slow


def trained(
    norm: str = "layer", cell: str = "lstm", statistics: str = "per_step", **changes: Any
) -> Translator:
    """Return a model with random weights; batch norm has seen some batches."""
    torch.manual_seed(0)
    relu = Nonlinearity.relu if cell == "rnn" and norm == "layer" else Nonlinearity.tanh
    settings: dict[str, Any] = {"embedding_size": 6, "hidden_size": 8, "init_scale": 0.9}
    settings |= {"attention": Attention.general, **changes}
    model = Translator(
        ModelConfig(**settings),
        NormConfig(NormKind[norm], statistics=Statistics[statistics]),
        CellConfig(CellKind[cell], relu),
        Vocabulary(SRC, TGT, False),
    )
    for _ in range(3):
        src, tgt = (torch.randint(4, n, (6, LONGEST)) for n in (SRC, TGT))
        model(src, torch.tensor([7, 5, 4, 7, 2, 1]), tgt, torch.tensor([5, 7, 3, 2, 4, 5]))
    return model.eval()


def sources(sentences: int, steps: int) -> tuple[Tensor, Tensor]:
    """Return ids of sentences of different lengths, and the lengths."""
    lengths = torch.randint(1, steps + 1, (sentences,))
    lengths[-1] = steps
    src = torch.randint(4, SRC, (sentences, steps))
    for row, length in zip(src, lengths, strict=True):
        row[length - 1] = 3
        row[length:] = 0
    return src, lengths


@torch.no_grad()
def assert_equal_networks(model: Translator, folder: Path) -> None:
    """Compare encoder and steps of the decoder with the model's, for batches of all shapes."""
    encoder, decoder = (
        onnxruntime.InferenceSession(folder / f"{name}.onnx") for name in networks.NETWORKS
    )
    names = [o.name for o in encoder.get_outputs()]
    for shape in SHAPES:
        src, lengths = sources(*shape)
        memory, state = model.encode(src, lengths)
        given = {"src": src.numpy(), "src_lengths": lengths.numpy()}
        found = dict(zip(names, encoder.run(None, given), strict=True))
        np.testing.assert_allclose(found["state"], joined(state), atol=1e-5)
        state.step = torch.arange(shape[0])
        for _ in range(3):
            words = torch.randint(4, TGT, shape[:1])
            found |= {"words": words.numpy(), "step": state.steps().numpy()}
            log_probs, found["state"] = decoder.run(None, found)
            logits, state, _ = model.step(words, state, memory)
            expected = torch.log_softmax(logits, dim=1)
            expected[:, [0, 2]] = float("-inf")
            np.testing.assert_allclose(log_probs, expected, atol=1e-5)


def test_networks_are_the_models(tmp_path: Path) -> None:
    model = trained("batch", "gru", bidirectional=False, attention=Attention.additive)
    networks.write_networks(model, tmp_path)
    assert_equal_networks(model, tmp_path)


DEEP = {"encoder_layers": 2, "decoder_layers": 3, "residual": True, "input_feeding": True}


@SLOW
@pytest.mark.parametrize(
    "changes",
    [
        *({"norm": n, "cell": c} for n in NormKind.__members__ for c in CellKind.__members__),
        *({"attention": a, "input_feeding": f} for a in Attention for f in (False, True)),
        *({"norm": n, **DEEP} for n in NormKind.__members__),
        *({"norm": "batch", "statistics": s} for s in ("shared", "sequence_input")),
    ],
    ids=str,
)
def test_networks_of_every_kind_are_the_models(changes: dict[str, Any], tmp_path: Path) -> None:
    model = trained(**changes)
    networks.write_networks(model, tmp_path)
    assert_equal_networks(model, tmp_path)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Translator, Path]:
    """Return a model and the folder of its networks."""
    folder = tmp_path_factory.mktemp("small")
    model = trained("none", attention=Attention.dot, input_feeding=True)
    networks.write_networks(model, folder)
    return model, folder


def test_networks_without_a_norm_are_the_models(small: tuple[Translator, Path]) -> None:
    assert_equal_networks(*small)


@pytest.mark.parametrize("beam", [1, 2, 5, 12])
@pytest.mark.parametrize(("penalty", "rule"), [(1.0, "2x+10"), (0.0, "1.5x"), (0.6, "3")])
def test_the_search_is_the_projects(
    small: tuple[Translator, Path], beam: int, penalty: float, rule: str
) -> None:
    model, folder = small
    settings = {
        "bos_id": 2,
        "eos_id": 3,
        "length_penalty": penalty,
        "max_length": length_limit(rule),
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    example = Example(folder)
    sentences = [row[: n - 1].tolist() for row, n in zip(*sources(12, 9), strict=True) if n > 1]
    config = DecodeConfig(beam_size=beam, length_penalty=penalty, max_length=rule)
    ended = set[bool]()
    for i, [best] in search_in_batches(model, sentences, config):
        score, log_p, ids = example.search(sentences[i], beam)
        assert ids == best.ids
        assert log_p == pytest.approx(best.log_prob, rel=1e-5, abs=1e-5)
        assert score == pytest.approx(best.score, rel=1e-5, abs=1e-5)
        ended.add(best.ended)
    assert False in ended if rule == "3" else ended


def test_a_network_of_one_shape_alone_is_refused(
    small: tuple[Translator, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = small
    monkeypatch.setattr(networks, "SOURCE", torch.export.Dim.STATIC)
    with pytest.raises(RuntimeError, match=r"encoder\.onnx: torch has exported .* one shape"):
        networks.write_networks(model, tmp_path)
