"""The rival computes what our translator without a norm computes."""

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from seq2seq.benchmark.plain import PlainTranslator, as_plain
from seq2seq.benchmark.plain_search import search_in_batches as plain_search
from seq2seq.config import (
    Attention,
    CellConfig,
    CellKind,
    Config,
    DecodeConfig,
    ModelConfig,
    TrainerConfig,
    Tying,
)
from seq2seq.model import Translator, Vocabulary
from seq2seq.rnn import NormConfig, NormKind
from seq2seq.translation.search import search_in_batches

VOCABULARY = Vocabulary(60, 50, False)


def both(
    feeds: bool, dtype: torch.dtype, scale: float
) -> tuple[Translator, PlainTranslator, Config]:
    """Return our translator without a norm, the rival with its weights, and their settings."""
    torch.manual_seed(1)
    config = Config(
        norm=NormConfig(kind=NormKind.none),
        model=ModelConfig(12, 16, input_feeding=feeds, dropout=0.0, init_scale=scale),
    )
    ours = Translator(config.model, config.norm, config.cell, VOCABULARY).to(dtype)
    plain = PlainTranslator(config, VOCABULARY).to(dtype)
    plain.load_state_dict(as_plain(ours.state_dict(), feeds))
    return ours, plain, config


def sentences(count: int, size: int) -> list[list[int]]:
    """Return sentences of 1 to 9 random ids, without eos."""
    chance = torch.Generator().manual_seed(2)
    lengths = torch.randint(1, 10, (count,), generator=chance).tolist()
    return [torch.randint(4, size, (n,), generator=chance).tolist() for n in lengths]


def padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Return ids (B, T) that end in eos, and their lengths (B,)."""
    ended = [torch.tensor([*row, VOCABULARY.eos_id]) for row in rows]
    return pad_sequence(ended, batch_first=True), torch.tensor([len(row) for row in ended])


@pytest.mark.parametrize("feeds", [False, True])
def test_loss_and_gradients_are_those_of_our_translator(feeds: bool) -> None:
    ours, plain, _ = both(feeds, torch.float64, scale=0.4)
    batch = *padded(sentences(7, 60)), *padded(sentences(7, 50)[::-1])
    expected = ours(*batch, 0.1)[0]
    found = plain(*batch, 0.1)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=0)
    expected.backward()
    found.backward()
    gradients = as_plain(
        {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}, feeds
    )
    assert gradients.keys() == dict(plain.named_parameters()).keys()
    for name, parameter in plain.named_parameters():
        # our attention's softmax is in float32
        largest = 1e-5 * float(gradients[name].abs().max())
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=0, atol=largest)


@pytest.mark.parametrize("feeds", [False, True])
@pytest.mark.parametrize("beam", [1, 5])
def test_translations_are_those_of_our_translator(feeds: bool, beam: int) -> None:
    ours, plain, _ = both(feeds, torch.float32, scale=0.9)
    with torch.no_grad():
        for model in (ours, plain):
            model.output.bias[VOCABULARY.eos_id] += 1.5  # translations of many lengths
    lines, config = sentences(30, 60), DecodeConfig(beam_size=beam, batch_size=12)
    found, steps = plain_search(plain.eval(), lines, config)
    expected = {i: best[0].ids for i, best in search_in_batches(ours.eval(), lines, config)}
    assert found == [expected[i] for i in range(len(lines))]
    assert len({len(ids) for ids in found}) > 3
    assert [len(batch) for batch in steps] == [12, 12, 6]
    most = max(2 * len(line) + 10 for line in lines)
    assert all(1 <= count <= most for batch in steps for count in batch.tolist())


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (Config(model=ModelConfig(12, 16, encoder_layers=2)), "model.encoder_layers=2"),
        (
            Config(model=ModelConfig(12, 16, input_feeding=True, recurrent_dropout=0.3)),
            "model.recurrent_dropout=0.3",
        ),
        (Config(model=ModelConfig(12, 16, attention=Attention.dot)), "model.attention=dot"),
        (Config(model=ModelConfig(12, 16, tying=Tying.target)), "model.tying=target"),
        (Config(cell=CellConfig(CellKind.gru)), "cell.kind=gru"),
        (Config(decode=DecodeConfig(min_length=2)), "decode.min_length=2"),
        (Config(trainer=TrainerConfig(r_drop=4)), "trainer.r_drop=4"),
    ],
)
def test_settings_that_it_does_not_have_are_named(config: Config, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        PlainTranslator(config, VOCABULARY)
