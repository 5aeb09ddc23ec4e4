"""Input feeding in training: the kernels' loop over steps against plain torch."""

import weakref
from typing import Any

import pytest
import torch
from kernel_cases import apart, needs_compiler
from torch import Tensor

from seq2seq.config import Attention, CellConfig, CellKind, ModelConfig, Tying
from seq2seq.model import Translator, Vocabulary, decoder
from seq2seq.model.memory import Memory, StepwiseMemory
from seq2seq.rnn import NormConfig, NormKind, RecurrentLayers, packs

pytestmark = needs_compiler
WORDS = Vocabulary(50, 50, shared=True)
SRC_LENGTHS, TGT_LENGTHS = torch.tensor([5, 3, 7, 2, 6, 4]), torch.tensor([4, 8, 3, 3, 6, 5])


def ids(lengths: Tensor) -> Tensor:
    """Return ids (B, T) of sentences that end in eos and are padded."""
    words = torch.randint(4, 50, (len(lengths), int(lengths.max())))
    for row, length in zip(words, lengths.tolist(), strict=True):
        row[length - 1], row[length:] = WORDS.eos_id, WORDS.pad_id
    return words


def losses(
    backend: str, norm: NormKind, cell: CellKind, bf16: bool = False, **options: Any
) -> dict[str, Tensor]:
    """Return the loss, all gradients and all buffers of one pass with dropout."""
    torch.manual_seed(0)
    config = ModelConfig(**{"embedding_size": 16, "hidden_size": 24, "dropout": 0.3} | options)
    config.input_feeding = True
    norms, cells = NormConfig(kind=norm), CellConfig(kind=cell)
    model = Translator(config, norms, cells, WORDS, backend).train()
    src, tgt = ids(SRC_LENGTHS), ids(TGT_LENGTHS)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss, _ = model(src, SRC_LENGTHS, tgt, TGT_LENGTHS, 0.1)
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **gradients, **dict(model.named_buffers())}


@pytest.mark.parametrize("norm", NormKind)
@pytest.mark.parametrize("cell", CellKind)
def test_every_cell_and_norm_agrees_with_plain_torch(cell: CellKind, norm: NormKind) -> None:
    distances = apart(losses("auto", norm, cell), losses("reference", norm, cell))
    assert {name: d for name, d in distances.items() if d > 2e-3} == {}


@pytest.mark.parametrize(
    "options",
    [
        *({"attention": kind} for kind in Attention),
        {"decoder_layers": 2, "residual": True},
        {"tying": Tying.all},
        {"recurrent_dropout": 0.3},
        {"variational": True, "word_dropout": 0.2},
    ],
    ids=str,
)
def test_every_option_agrees_with_plain_torch(options: dict[str, Any]) -> None:
    case = NormKind.layer, CellKind.lstm
    distances = apart(losses("auto", *case, **options), losses("reference", *case, **options))
    assert {name: d for name, d in distances.items() if d > 2e-3} == {}


@pytest.mark.parametrize("norm", [NormKind.none, NormKind.layer, NormKind.rms])
def test_in_bfloat16_it_is_as_near_to_float32_as_plain_torch(norm: NormKind) -> None:
    exact = losses("reference", norm, CellKind.lstm)
    plain, ours = (
        apart(losses(backend, norm, CellKind.lstm, bf16=True), exact)
        for backend in ("reference", "auto")
    )
    assert max(plain.values()) > 1e-3  # bfloat16 it is
    assert {name: d for name, d in ours.items() if d > 2 * plain[name] + 0.02} == {}


@pytest.mark.skipif(not packs(torch.float32), reason="this CPU has no products of the kernels")
def test_weights_and_memory_are_shared_by_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    step = decoder.Decoder.step

    def watched(self: decoder.Decoder, *arguments: Any) -> Any:
        layer = self.layers[0]
        assert isinstance(layer, RecurrentLayers)
        steps = layer.cell_parameters("_l0").steps
        assert steps is not None
        seen.append((self.combine.steps, steps.hh, arguments[2]))
        return step(self, *arguments)

    monkeypatch.setattr(decoder.Decoder, "step", watched)
    losses("auto", NormKind.layer, CellKind.lstm)
    assert len(seen) == int(TGT_LENGTHS.max())
    for combine, recurrent, memory in seen:
        assert combine is seen[0][0] is not None
        assert recurrent is seen[0][1]
        assert isinstance(memory, StepwiseMemory)
        assert memory.step_gradients is seen[0][2].step_gradients


def test_nothing_of_the_steps_of_attention_stays_in_memory() -> None:
    states, keys = (torch.randn(3, 5, 8, requires_grad=True) for _ in range(2))
    memory = StepwiseMemory.of(Memory(states, keys, torch.ones(3, 5, dtype=torch.bool)), [3, 2])
    outputs = [memory.select(slice(n)).attend(torch.randn(n, 1, 8), "auto")[0] for n in (3, 2)]
    torch.cat(outputs).sum().backward()
    shared = weakref.ref(memory.step_gradients)
    del memory, outputs
    assert shared() is None
