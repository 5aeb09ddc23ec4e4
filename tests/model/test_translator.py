import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from seq2seq.config import Attention, CellConfig, CellKind, ModelConfig, Nonlinearity, Tying
from seq2seq.model import Dropout, Packing, Translator, Vocabulary, count_parameters
from seq2seq.model.attention import AttentionLayer
from seq2seq.model.dropout import drop_words
from seq2seq.rnn import NormConfig, NormKind

SRC_LENGTHS, TGT_LENGTHS = torch.tensor([3, 5, 2, 5]), torch.tensor([6, 2, 4, 1])


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    src, tgt = (torch.randint(4, 20, (4, n), generator=generator) for n in (5, 6))
    for ids, lengths in ((src, SRC_LENGTHS), (tgt, TGT_LENGTHS)):
        for row, length in zip(ids, lengths, strict=True):
            row[length - 1] = 3
            row[length:] = 0
    return src, SRC_LENGTHS, tgt, TGT_LENGTHS


def translator(
    norm: str = "layer",
    cell: CellKind = CellKind.lstm,
    nonlinearity: Nonlinearity = Nonlinearity.tanh,
    shared: bool = True,
    **changes: Any,
) -> Translator:
    torch.manual_seed(0)
    settings = {
        "embedding_size": 8,
        "hidden_size": 12,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "dropout": 0.0,
        "init_scale": 0.5,
    } | changes
    model = Translator(
        ModelConfig(**settings),
        NormConfig(kind=NormKind[norm]),
        CellConfig(cell, nonlinearity),
        Vocabulary(20, 20, shared),
    )
    return model.double()


OPTIONS = [
    *({"attention": a, "input_feeding": f} for a, f in itertools.product(Attention, (False, True))),
    {"bidirectional": False},
    {"encoder_layers": 1, "decoder_layers": 3},
    {"encoder_layers": 3, "decoder_layers": 1},
    *({"residual": True, "input_feeding": f} for f in (False, True)),
    {"residual": True, "encoder_layers": 3, "decoder_layers": 1, "bidirectional": False},
    {"tying": Tying.target},
    {"tying": Tying.all, "input_feeding": True},
    *({"cell": c, "norm": n} for c, n in itertools.product(CellKind, NormKind.__members__)),
    {"cell": CellKind.rnn, "nonlinearity": Nonlinearity.relu},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_stepwise_decoding_gives_the_probabilities_of_training(options: dict[str, Any]) -> None:
    model = translator(**options)
    src, src_lengths, tgt, tgt_lengths = batch()
    model(src, src_lengths, tgt, tgt_lengths)  # batch norm gets its statistics
    model.eval()
    _, nll = model(src, src_lengths, tgt, tgt_lengths)
    memory, state = model.encode(src, src_lengths)
    previous, stepwise = torch.full((4,), 2), torch.zeros((), dtype=torch.double)
    weights = model.attention(src, src_lengths, tgt, tgt_lengths)
    for t in range(tgt.size(1)):
        logits, state, seen = model.step(previous, state, memory)
        log_probs = logits.log_softmax(dim=1)
        previous, active = tgt[:, t], t < tgt_lengths
        stepwise -= (log_probs.gather(1, previous[:, None]).squeeze(1) * active).sum()
        if weights is not None:
            assert seen is not None
            torch.testing.assert_close(seen[active], weights[active, t])
    # The logits of the steps are in float32, so the two agree to its rounding.
    torch.testing.assert_close(stepwise, nll, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)  # kernels, plain torch
@pytest.mark.parametrize("attention", [Attention.dot, Attention.general, Attention.additive])
def test_no_scores_of_all_steps_exist_where_no_weights_are_kept(
    monkeypatch: pytest.MonkeyPatch, attention: Attention, dtype: torch.dtype
) -> None:
    model = translator(attention=attention).to(dtype).eval()
    expected = model(*batch())
    seen = []
    at_once = AttentionLayer._at_once

    def watched(*arguments: Any) -> Any:
        seen.append(at_once(*arguments))
        return seen[-1]

    monkeypatch.setattr(AttentionLayer, "_at_once", watched)
    model(*batch())
    assert len(seen) == 1
    several = 12 if attention is Attention.additive else 1
    for steps in (1, 2, 4):
        monkeypatch.setattr("seq2seq.model.attention.BLOCK", 4 * 5 * several * steps)
        seen.clear()
        with torch.no_grad():
            found = model(*batch())
        assert [weights.shape for _, weights in seen] == [
            (4, min(steps, 6 - start), 5) for start in range(0, 6, steps)
        ]
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_parameter_learns(options: dict[str, Any]) -> None:
    model = translator(**options)
    loss, _ = model(*batch(), smoothing=0.1)
    loss.backward()
    without = [
        name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]
    # A bias that adds the same to every score of a softmax, or is undone by batch norm's mean, has
    # no gradient.
    assert without == []


@pytest.mark.parametrize("feeding", [False, True])
def test_a_residual_layer_of_zeros_changes_nothing(feeding: bool) -> None:
    """Its output is 0 from a state of 0, so that its input is what the next layer sees."""
    options: dict[str, Any] = {"norm": "none", "input_feeding": feeding}
    one = translator(encoder_layers=1, decoder_layers=1, **options)
    for bridge in one.bridge.parameters():
        bridge.data.zero_()
    for residual in (True, False):
        two = translator(residual=residual, **options)
        two.load_state_dict(one.state_dict(), strict=False)
        for name, parameter in two.named_parameters():
            if name not in one.state_dict():
                parameter.data.zero_()
        same = torch.equal(two(*batch())[0], one(*batch())[0])
        assert same is residual


@pytest.mark.parametrize("feeding", [False, True])
def test_a_residual_layer_adds_its_input_as_it_was_before_dropout(
    feeding: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the layer itself returns 0, dropout on its input changes nothing."""
    model = translator(norm="none", residual=True, input_feeding=feeding, dropout=0.5)
    for part in (model.bridge, model.encoder.layers[1], model.decoder.layers[1]):
        for parameter in part.parameters():
            parameter.data.zero_()
    dropped = drop_only(monkeypatch, "encoder1", "decoder1")
    assert torch.equal(model(*batch())[0], model.eval()(*batch())[0])
    assert dropped == {"encoder1", "decoder1"}


def drop_only(monkeypatch: pytest.MonkeyPatch, *places: str) -> set[str]:
    """Let dropout act at these places alone; return a set, which gets those where it has acted."""
    call, acted = Dropout.__call__, set[str]()

    def dropped(self: Dropout, place: str, x: Tensor) -> Tensor:
        if place not in places or self.p == 0:
            return x
        acted.add(place)
        return call(self, place, x)

    monkeypatch.setattr(Dropout, "__call__", dropped)
    return acted


@pytest.mark.parametrize("place", ["source", "encoder1", "target", "decoder1", "output"])
@pytest.mark.parametrize("feeding", [False, True])
def test_dropout_has_an_effect_at_each_place(
    place: str, feeding: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = translator(dropout=0.5, input_feeding=feeding)
    drop_only(monkeypatch, place)
    assert model(*batch())[0] != model.eval()(*batch())[0]


def test_each_layer_of_the_decoder_starts_from_its_own_layer_of_the_encoder() -> None:
    bridge = translator().bridge
    last = [tuple(torch.randn(2, 4, 12, dtype=torch.float64)) for _ in range(2)]
    before = bridge(last)
    for i in range(2):
        changed = list(last)
        changed[i] = tuple(part + 1 for part in last[i])
        after = bridge(changed)
        for part in range(2):
            same = [torch.equal(after[j][part], before[j][part]) for j in range(2)]
            assert same == [j != i for j in range(2)]


@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize("feeding", [False, True])
def test_dropout_acts_only_in_training(variational: bool, feeding: bool) -> None:
    model = translator(dropout=0.5, variational=variational, input_feeding=feeding)
    first, second = (model(*batch())[0] for _ in range(2))
    assert first != second
    model.eval()
    first, second = (model(*batch())[0] for _ in range(2))
    assert first == second


def test_variational_mask_is_the_same_at_every_step() -> None:
    torch.manual_seed(0)
    packing = Packing(torch.tensor([2, 4, 3]), 4, torch.device("cpu"))
    x = torch.ones(9, 50)
    padded = packing.pad(Dropout(0.5, True, packing)("place", x))
    for row, length in zip(padded, (2, 4, 3), strict=True):
        assert torch.equal(row[:length], row[:1].expand(length, -1))
    assert not torch.equal(padded[0, 0], padded[1, 0])
    plain = packing.pad(Dropout(0.5, False, packing)("place", x))
    assert not torch.equal(plain[1, 0], plain[1, 1])
    dropout = Dropout(0.5, True, packing)
    assert torch.equal(dropout("place", torch.ones(3, 50))[:2], dropout("place", torch.ones(2, 50)))


def test_a_word_is_dropped_everywhere_in_its_sentence() -> None:
    torch.manual_seed(0)
    words = torch.randint(0, 6, (200, 9))
    lengths = torch.arange(200) % 9 + 1
    packing = Packing(lengths, 9, torch.device("cpu"))
    ids, rows = packing.pack(words), torch.ones(int(lengths.sum()), 3)
    padded = packing.pad(drop_words(rows, ids, packing, 0.25))
    kept = dict[tuple[int, int], float]()
    for i, length in enumerate(lengths.tolist()):
        for word, row in zip(words[i, :length].tolist(), padded[i, :length], strict=True):
            assert torch.equal(row, row[:1].expand(3))
            assert kept.setdefault((i, word), float(row[0])) == row[0]
    assert {round(value, 4) for value in kept.values()} == {0.0, round(1 / 0.75, 4)}
    share = sum(value == 0 for value in kept.values()) / len(kept)
    assert share == pytest.approx(0.25, abs=0.05)
    for word in range(6):  # not the same in every sentence
        assert len({value for (_, other), value in kept.items() if other == word}) == 2
    assert drop_words(rows, ids, packing, 0.0) is rows


@pytest.mark.parametrize("feeding", [False, True])
def test_word_dropout_acts_only_in_training(feeding: bool) -> None:
    model, plain = (translator(word_dropout=p, input_feeding=feeding) for p in (0.5, 0.0))
    first, second = (model(*batch())[0] for _ in range(2))
    assert first != second
    assert torch.equal(model.eval()(*batch())[0], plain.eval()(*batch())[0])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_r_drop_of_equal_passes_changes_nothing(options: dict[str, Any]) -> None:
    model = translator(**options).eval()  # as batch norm has more rows in two passes
    once, twice = (model(*batch(), 0.1, 7.0, r_drop) for r_drop in (0.0, 4.0))
    torch.testing.assert_close(twice, once)


@pytest.mark.parametrize("feeding", [False, True])
@pytest.mark.parametrize("dropout", ["dropout", "word_dropout"])
def test_r_drop_compares_two_passes_of_each_sentence(feeding: bool, dropout: str) -> None:
    options: dict[str, Any] = {"input_feeding": feeding, dropout: 0.4}
    model = translator(**options)
    torch.manual_seed(1)
    loss, nll = model(*batch(), 0.0, 1.0, 4.0)
    torch.manual_seed(1)  # the same dropout
    src, src_lengths, tgt, tgt_lengths = (ids.repeat_interleave(2, dim=0) for ids in batch())
    packing = Packing(tgt_lengths, tgt.size(1), tgt.device)
    states, _ = model.decode(*model.encode(src, src_lengths), tgt, packing)
    log_p = packing.pad(torch.log_softmax(model.output(states), dim=1))  # (2 B, T, V)
    p, r = log_p[::2], log_p[1::2]
    divergence = ((p.exp() - r.exp()) * (p - r)).sum()  # KL(p || r) + KL(r || p)
    assert divergence > 1
    expected = -log_p.gather(2, tgt[:, :, None])[tgt > 0].sum() / 2
    torch.testing.assert_close(nll, expected)
    torch.testing.assert_close(loss, expected + divergence)


def test_padding_and_order_change_nothing() -> None:
    model = translator(norm="layer").eval()
    src, src_lengths, tgt, tgt_lengths = batch()
    whole = model(src, src_lengths, tgt, tgt_lengths)[1]
    alone = sum(
        model(
            src[i : i + 1, :n], src_lengths[i : i + 1], tgt[i : i + 1, :m], tgt_lengths[i : i + 1]
        )[1]
        for i, (n, m) in enumerate(zip(SRC_LENGTHS, TGT_LENGTHS, strict=True))
    )
    order = torch.tensor([2, 0, 3, 1])
    permuted = model(src[order], src_lengths[order], tgt[order], tgt_lengths[order])[1]
    torch.testing.assert_close(alone, whole, rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(permuted, whole, rtol=1e-12, atol=1e-10)


def test_packing_is_undone_by_padding() -> None:
    packing = Packing(torch.tensor([2, 4, 1]), 4, torch.device("cpu"))
    x = torch.randn(3, 4, 5)
    mask = torch.arange(4) < torch.tensor([2, 4, 1])[:, None]
    assert torch.equal(packing.pad(packing.pack(x)), x * mask[:, :, None])


def test_tying_shares_weights() -> None:
    plain, target, shared = (translator(tying=t) for t in Tying)
    assert target.output.weight is target.tgt_embedding.weight
    assert shared.src_embedding.weight is shared.output.weight
    assert count_parameters([plain]) > count_parameters([target]) > count_parameters([shared])
    with pytest.raises(ValueError, match=r"tokenizer\.joint=true"):
        translator(tying=Tying.all, shared=False)


def test_odd_size_of_a_bidirectional_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden_size=13"):
        translator(hidden_size=13)


def test_initialisation_does_not_change_norms() -> None:
    model = translator(norm="batch", init_scale=0.01)
    for name, p in model.named_parameters():
        if ".gain_" in name:
            torch.testing.assert_close(p, torch.full_like(p, 0.1), rtol=1e-6, atol=0)
        elif ".bias_c_" in name:
            assert torch.all(p == 0), name
        else:
            assert p.abs().max() <= 0.01, name
    assert torch.all(model.tgt_embedding.weight[0] == 0)
