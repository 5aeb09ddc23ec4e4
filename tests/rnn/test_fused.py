"""The fused CPU kernels: results and gradients against the float64 reference, and PyTorch's checks.

Tolerances are relative to the largest element of what is compared:

float32    5e-5   rounding (6e-8 an operation) through up to 40 steps, in sums of hundreds of
                  products
batch norm 1e-3   the variance of a feature over three rows can be small, and N divides by its
                  root in every layer
500 steps  2e-4   as float32, through ten times as many steps
bfloat16   3e-2   products keep 8 bits (4e-3); compared with the reference under the same autocast,
                  which rounds at other places
"""

import copy
import itertools
import logging
import os
import pickle
import shutil
import subprocess
import sys

import pytest
import torch
from oracles import CELLS, config, parts
from torch.autograd import forward_ad
from torch.nn.utils.rnn import pack_sequence
from torch.utils.checkpoint import checkpoint

from seq2seq.config import CellConfig, ModelConfig
from seq2seq.model import Translator, Vocabulary
from seq2seq.rnn import GRU, LSTM, RNN, NormConfig, NormKind, packs, recalibrating
from seq2seq.rnn import backends as ops
from seq2seq.rnn.cpu import build, launch, operands, operators

NORMS = ["none", "layer", "rms"]
LENGTHS = {
    "equal": [6] * 5,
    "ragged": [9, 1, 4, 4, 7],
    "one step": [1] * 4,
    "one row": [8],
    "one of both": [1],
}
INPUTS = 13
FLOAT32, BATCH_NORM, LONG, BFLOAT16 = 5e-5, 1e-3, 2e-4, 3e-2

needs_compiler = pytest.mark.skipif(
    shutil.which(build.compiler()[0]) is None, reason="no C++ compiler"
)
pytestmark = needs_compiler


BATCH = {
    statistics: config("batch", statistics=statistics, min_rows=3)
    for statistics in ("per_step", "sequence_input", "shared")
}


BATCH_CASES = [
    (cell, statistics)
    for cell in CELLS
    for statistics in BATCH
    if cell in ("lstm", "gru") or statistics != "sequence_input"
]
"""Cells and statistics that the kernels cover: that one leaves the RNN's terms separate."""


def layer_of(hidden, norm, cell="lstm", **options):
    """A layer with random gains and shifts, in double."""
    torch.manual_seed(hidden)
    layer = CELLS[cell](INPUTS, hidden, norm=norm, backend="reference", **options).double()
    for name, p in layer.named_parameters():
        if name.startswith("gain"):
            torch.nn.init.normal_(p, 0.3 if layer.norm.kind is NormKind.batch else 1.0, 0.1)
        elif name.startswith("bias"):
            torch.nn.init.normal_(p, 0.0, 0.3)
    return layer


def case(layer, lengths, given, scale=1.0):
    """Sentences, (h_0, c_0) or None, and upstream gradients of output and both last states."""
    sentences = [scale * torch.randn(length, INPUTS, dtype=torch.double) for length in lengths]
    directions, count = layer.num_directions, len(lengths)
    shape = (layer.num_layers * directions, count, layer.hidden_size)
    names = "hc" if layer.cell == "lstm" else "h"
    state = [torch.randn(shape, dtype=torch.double) for _ in names] if given else []
    upstream = [
        torch.randn(sum(lengths), directions * layer.hidden_size),
        *(torch.randn(shape) for _ in names),
    ]
    return sentences, state, upstream


def results(layer, sentences, state, upstream, dtype, backend, autocast=False, ran=None):
    """By name: output, last states and the gradients of everything, computed by a copy in a type on
    a backend.

    The copy is appended to `ran`.
    """
    layer = copy.deepcopy(layer).to(dtype)
    if ran is not None:
        ran.append(layer)
    layer.backend = backend
    xs = [x.to(dtype, copy=True).requires_grad_() for x in sentences]
    hx = [s.to(dtype, copy=True).requires_grad_() for s in state]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        state = (tuple(hx) if layer.cell == "lstm" else hx[0]) if hx else None
        output, last = layer(pack_sequence(xs, enforce_sorted=False), state)
    values = [output.data, *parts(last)]
    torch.autograd.backward(values, [u.to(dtype) for u in upstream])
    found = dict(zip(("output", "h_n", "c_n"), values, strict=False))
    found |= {f"gradient of {name}": p.grad for name, p in layer.named_parameters()}
    found |= {f"gradient of sentence {i}": x.grad for i, x in enumerate(xs)}
    found |= {f"gradient of {name}": s.grad for name, s in zip(("h_0", "c_0"), hx, strict=False)}
    return {name: None if v is None else v.detach().double() for name, v in found.items()}


def distances(found, expected):
    """By name, the largest difference as a part of the largest element expected; no gradient counts
    as 0.
    """
    apart = {}
    for name, e in expected.items():
        if e is None and found[name] is None:
            continue
        f = torch.zeros_like(e) if found[name] is None else found[name]
        e = torch.zeros_like(f) if e is None else e
        assert torch.isfinite(f).all(), name
        apart[name] = ((f - e).abs().max() / e.abs().max().clamp(min=1e-6)).item()
    return apart


def assert_fused_is_right(layer, given, lengths, tolerance=FLOAT32, scale=1.0):
    drawn = case(layer, lengths, given, scale)
    expected = results(layer, *drawn, torch.double, "reference")
    apart = distances(results(layer, *drawn, torch.float32, "fused"), expected)
    assert {name: d for name, d in apart.items() if d > tolerance} == {}


# -- numbers ---


@pytest.mark.parametrize("given", [True, False], ids=["h_0", "no h_0"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("hidden", [3, 17, 32, 100, 257])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", CELLS)
def test_float32_is_the_reference(cell, norm, hidden, lengths, given):
    assert_fused_is_right(layer_of(hidden, norm, cell), given, lengths)


@pytest.mark.parametrize("hidden", [17, 64, 100])
@pytest.mark.parametrize("norm", [*NORMS, "batch"])
@pytest.mark.parametrize("cell", CELLS)
def test_many_rows_are_the_references(cell, norm, hidden):
    """Of so many that where there is no AVX-512 the weight is not packed, until few of them are
    left.
    """
    assert_fused_is_right(
        layer_of(hidden, norm, cell),
        hidden == 64,
        [6] * 13 + [5, 4, 4, 3, 3, 2, 1],
        tolerance=BATCH_NORM if norm == "batch" else FLOAT32,
    )


@pytest.mark.slow
@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX512",
    reason="this CPU has no AVX-512 to leave out",
)
def test_without_avx512_it_is_the_reference_too():
    command = [sys.executable, "-m", "pytest", "-n", "0", "-k", "many_rows or same_bits", __file__]
    done = subprocess.run(
        command,
        env=os.environ | {"ATEN_CPU_CAPABILITY": "avx2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize(
    "options",
    [
        {"bidirectional": True},
        {"num_layers": 2, "bidirectional": True},
        {"bias": False},
        {"num_layers": 3, "bias": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", CELLS)
def test_layers_and_directions_are_the_references(cell, norm, options):
    assert_fused_is_right(layer_of(20, norm, cell, **options), True, LENGTHS["ragged"])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_500_steps_are_the_references(cell, norm):
    assert_fused_is_right(layer_of(33, norm, cell), True, [500, 13, 250], LONG)


@pytest.mark.parametrize("given", [True, False], ids=["h_0", "no h_0"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("hidden", [17, 100])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", CELLS)
def test_bfloat16_is_as_good_as_the_reference_in_it(cell, norm, hidden, lengths, given):
    layer = layer_of(hidden, norm, cell)
    drawn = case(layer, lengths, given)
    expected = results(layer, *drawn, torch.double, "reference")
    ours, theirs = (
        results(layer, *drawn, torch.float32, backend, autocast=True)
        for backend in ("fused", "reference")
    )
    assert {name: d for name, d in distances(ours, theirs).items() if d > BFLOAT16} == {}
    assert distances(ours, expected)["output"] > 1e-4  # or it was not bfloat16


@pytest.mark.parametrize("scale", [1e4, 1e-4, 0.0])
@pytest.mark.parametrize("norm", NORMS)
def test_extreme_inputs_are_the_references(norm, scale):
    layer = layer_of(24, norm)
    if (
        scale == 1e4 and norm == "none"
    ):  # gates are 0 or 1: what tells them from that is lost to rounding
        drawn = case(layer, LENGTHS["ragged"], True, scale)
        found, expected = (
            results(layer, *drawn, torch.float32, "fused"),
            results(layer, *drawn, torch.float32, "reference"),
        )
        assert max(distances(found, expected).values()) < 1e-2
        return
    assert_fused_is_right(layer, True, LENGTHS["ragged"], scale=scale)


@pytest.mark.parametrize("norm", ["layer", "rms"])
def test_constant_rows_whose_variance_is_0(norm):
    layer = layer_of(24, norm)
    with torch.no_grad():
        layer.weight_ih_l0.fill_(0.5)
        layer.weight_hh_l0.fill_(0.25)
    drawn = case(layer, [5, 5], True)
    expected = results(layer, *drawn, torch.double, "reference")
    found = results(layer, *drawn, torch.float32, "fused")
    apart = distances(
        found, expected
    )  # behind 1 / sqrt(eps) = 316, sums that are 0 in truth are rounding
    assert max(d for name, d in apart.items() if not name.startswith("gradient")) < 1e-3
    assert all(torch.isfinite(v).all() for v in found.values())


def test_not_a_number_stays_one():
    layer = LSTM(2, 3, norm="none", backend="fused")
    assert layer(torch.full((2, 1, 2), float("nan")))[0].isnan().all()


def test_an_input_that_is_not_contiguous():
    layer = layer_of(20, "layer").float()
    x, state = torch.randn(INPUTS, 3, 6), torch.randn(2, 1, 20, 3)
    reference = layer(x.permute(2, 1, 0), tuple(state.transpose(-1, -2)))
    layer.backend = "fused"
    found = layer(x.permute(2, 1, 0), tuple(state.transpose(-1, -2)))
    torch.testing.assert_close(found, reference, rtol=1e-5, atol=1e-5)
    upstream = torch.randn(20, 3, 6).permute(2, 1, 0)
    gradients = []
    for layer.backend in ("fused", "reference"):
        layer.zero_grad()
        layer(x.permute(2, 1, 0))[0].backward(upstream)
        gradients.append([p.grad for p in layer.parameters()])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_products_without_packed_weights_give_the_same(monkeypatch, dtype):
    layer = layer_of(40, "layer").float()
    layer.backend = "fused"
    x = torch.randn(5, 3, INPUTS)

    def run():
        layer.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype is torch.bfloat16):
            output, _ = layer(x)
        output.sum().backward()
        return [output.detach(), *(p.grad for p in layer.parameters())]

    packed = run()
    assert packs(torch.float32)
    for module in (launch, operands):
        monkeypatch.setattr(module, "packs", lambda dtype: False)
    assert max((a - b).abs().max() / b.abs().max() for a, b in zip(run(), packed, strict=True)) < (
        1e-5 if dtype is torch.float32 else 2e-2
    )


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_the_same_input_gives_the_same_bits_from_run_to_run(norm):
    layer = layer_of(256, norm, bidirectional=True)
    drawn = case(layer, [9, 3, 7, 8] * 16, True)  # work enough to be shared
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            first, *others = (results(layer, *drawn, torch.float32, "fused") for _ in range(3))
            for name, other in itertools.product(first, others):
                assert torch.equal(first[name], other[name]), name
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("norm", NORMS)
def test_two_threads_give_what_one_gives(norm, cell):
    layer = layer_of(256, norm, cell)
    drawn = case(layer, [7] * 64, True)  # work enough to be shared
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            found.append(results(layer, *drawn, torch.float32, "fused"))
    finally:
        torch.set_num_threads(threads)
    assert max(distances(*found).values()) < FLOAT32


@pytest.mark.parametrize("norm", NORMS)
def test_a_translator_has_the_references_loss(norm):
    torch.manual_seed(0)
    model = Translator(
        ModelConfig(16, 24, encoder_layers=2, decoder_layers=2, input_feeding=True, dropout=0.0),
        NormConfig(kind=NormKind[norm]),
        CellConfig(),
        Vocabulary(40, 40, True),
        "fused",
    )
    ids, lengths = torch.randint(4, 40, (5, 7)), torch.tensor([7, 5, 5, 2, 1])
    losses = {}
    for backend in ("fused", "reference"):
        for module in model.modules():
            if isinstance(module, LSTM):
                module.backend = backend
        losses[backend] = model(ids, lengths, ids, lengths)[0].item()
    assert losses["fused"] == pytest.approx(losses["reference"], rel=1e-5)


# -- batch norm ---


def assert_batch_norm_is_right(layer, batches, given=True, modes=(True, True, False)):
    """Outputs, gradients and statistics after each of some batches in training or eval mode are the
    reference's.
    """
    drawn = [case(layer, lengths, given) for lengths in batches]
    layers = [copy.deepcopy(layer), copy.deepcopy(layer)]
    for training, d in zip(modes, drawn, strict=True):
        found = []
        for i, (backend, dtype) in enumerate(
            (("fused", torch.float32), ("reference", torch.double))
        ):
            layers[i].train(training)
            values, layers[i] = batch_norm_results(layers[i].to(dtype), *d, dtype, backend)
            found.append(values)
        assert {name: a for name, a in distances(*found).items() if a > BATCH_NORM} == {}


def batch_norm_results(layer, sentences, state, upstream, dtype, backend):
    """`results` and the layer's buffers, which the copy that ran has changed; and that copy."""
    ran = []
    found = results(layer, sentences, state, upstream, dtype, backend, ran=ran)
    return found | {name: b.double() for name, b in ran[0].named_buffers()}, ran[0]


@pytest.mark.parametrize("given", [True, False], ids=["h_0", "no h_0"])
@pytest.mark.parametrize("hidden", [17, 64, 100])
@pytest.mark.parametrize(("cell", "statistics"), BATCH_CASES)
def test_batch_norm_is_the_reference(cell, statistics, hidden, given):
    batches = [
        [9, 1, 4, 4, 7, 7],
        [5] * 4,
        [12, 12, 3],
    ]  # the last steps have too few rows, or statistics of no step
    assert_batch_norm_is_right(layer_of(hidden, BATCH[statistics], cell), batches, given)


@pytest.mark.parametrize(
    "options", [{"num_layers": 2, "bidirectional": True}, {"bias": False}], ids=str
)
@pytest.mark.parametrize(("cell", "statistics"), BATCH_CASES)
def test_batch_norm_in_layers_and_directions_is_the_reference(cell, statistics, options):
    batches = [[9, 1, 4, 4, 7, 7], [5] * 4, [12, 12, 3]]
    assert_batch_norm_is_right(layer_of(20, BATCH[statistics], cell, **options), batches)


@pytest.mark.parametrize("lengths", [[1] * 4, [8], [1], [6, 6]], ids=str)
@pytest.mark.parametrize(("cell", "statistics"), BATCH_CASES)
def test_batch_norm_of_few_rows_and_steps_is_the_reference(cell, statistics, lengths):
    assert_batch_norm_is_right(layer_of(20, BATCH[statistics], cell), [lengths] * 3)


@pytest.mark.parametrize(("cell", "statistics"), BATCH_CASES)
def test_batch_norm_over_two_threads_is_the_reference(cell, statistics):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert_batch_norm_is_right(layer_of(257, BATCH[statistics], cell), [[6] * 40] * 3)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(("cell", "statistics"), BATCH_CASES)
def test_batch_norm_recalibrates_as_the_reference(cell, statistics):
    layer = layer_of(20, BATCH[statistics], cell)
    drawn = [case(layer, lengths, False) for lengths in ([9, 1, 4, 4, 7], [5] * 4)]
    stored = []
    for backend, dtype in (("fused", torch.float32), ("reference", torch.double)):
        run = copy.deepcopy(layer).to(dtype).eval()
        run.backend = backend
        with recalibrating(run):
            for sentences, *_ in drawn:
                run(pack_sequence([s.to(dtype) for s in sentences], enforce_sorted=False))
        stored.append({name: b.double() for name, b in run.named_buffers()})
    assert max(distances(*stored).values()) < FLOAT32


def test_batch_norm_a_step_at_a_time_reads_the_statistics_of_its_step():
    layer = layer_of(20, BATCH["per_step"]).float()
    x = torch.randn(6, 4, INPUTS)
    layer(x)
    layer.eval()
    layer.backend = "fused"
    whole, state, steps = layer(x)[0], None, []
    for t in range(6):
        output, state = layer(x[t : t + 1], state, first_step=t)
        steps.append(output)
    torch.testing.assert_close(torch.cat(steps), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("cell", "statistics"), BATCH_CASES)
def test_batch_norm_in_bfloat16_is_as_good_as_the_reference_in_it(cell, statistics):
    layer = layer_of(100, BATCH[statistics], cell)
    drawn = case(layer, [9, 4, 4, 7, 7, 7, 9, 9], True)
    expected = results(layer, *drawn, torch.double, "reference")
    ours, theirs = (
        results(layer, *drawn, torch.float32, backend, autocast=True)
        for backend in ("fused", "reference")
    )
    assert {name: d for name, d in distances(ours, theirs).items() if d > BFLOAT16} == {}
    assert distances(ours, expected)["output"] > 1e-4  # or it was not bfloat16


STATISTICS = {"lstm": 9, "gru": 6, "rnn_tanh": 1, "rnn_relu": 1}
"""Hidden sizes of statistics of a step."""


def batch_arguments(
    dtype=torch.float32, wide_input=False, save=True, given=True, normalises_input=True, cell="lstm"
):
    """Of seq2seq::batch_norm_recurrence."""
    *tensors, sizes, _, _, eps, packed, _ = arguments("layer", dtype, save, given, cell)
    if wide_input:
        tensors[0] = tensors[0].detach().float().requires_grad_(save)
    mean, var = torch.randn(3, STATISTICS[cell] * 6), torch.rand(3, STATISTICS[cell] * 6) + 0.5
    return *tensors, mean, var, sizes, 2, cell, eps, normalises_input, packed, save


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"given": False},
        {"save": False},
        {"normalises_input": False},
        {"dtype": torch.bfloat16},
        {"dtype": torch.bfloat16, "wide_input": True, "normalises_input": False},
        {"cell": "gru"},
        {"cell": "gru", "given": False},
        {"cell": "rnn_tanh"},
        {"cell": "rnn_relu", "dtype": torch.bfloat16},
    ],
    ids=str,
)
def test_opcheck_of_batch_norm(options):
    assert operators.failure() is None
    torch.library.opcheck(
        torch.ops.seq2seq.batch_norm_recurrence.default, batch_arguments(**options)
    )


def test_batch_norm_refuses_wrong_types():
    assert operators.failure() is None
    with pytest.raises(RuntimeError, match="expected products in float or bfloat16, got Double"):
        torch.ops.seq2seq.batch_norm_recurrence(*batch_arguments(dtype=torch.double, save=False))
    u, *others = batch_arguments(save=False)
    with pytest.raises(RuntimeError, match="expected an input term in float or the products' type"):
        torch.ops.seq2seq.batch_norm_recurrence(u.bfloat16(), *others)


# -- an operator among PyTorch's ---


SIZES = {"lstm": (4, 14), "gru": (3, 12), "rnn_tanh": (1, 2), "rnn_relu": (1, 2)}
"""Gates, and hidden sizes of vectors, of a cell."""


def arguments(norm="layer", dtype=torch.float32, save=True, given=True, cell="lstm"):
    """Of seq2seq::recurrence."""
    torch.manual_seed(0)
    hidden, sizes, (gates, vectors) = 6, [3, 3, 1], SIZES[cell]
    u, weight = (
        torch.randn(sum(sizes), gates * hidden, dtype=dtype),
        torch.randn(gates * hidden, hidden, dtype=dtype),
    )
    state = [
        torch.randn(3, hidden) if given and part in ("hc" if cell == "lstm" else "h") else None
        for part in "hc"
    ]
    tensors = [
        t if t is None else t.requires_grad_(save)
        for t in (u, weight, *state, torch.randn(vectors * hidden))
    ]
    return *tensors, sizes, cell, norm, 1e-5, packs(dtype), save


@pytest.mark.parametrize("given", [True, False], ids=["h_0", "no h_0"])
@pytest.mark.parametrize("save", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", SIZES)
def test_opcheck(cell, norm, dtype, save, given):
    assert operators.failure() is None
    torch.library.opcheck(
        torch.ops.seq2seq.recurrence.default, arguments(norm, dtype, save, given, cell)
    )


def test_wrong_types_and_names_are_refused():
    assert operators.failure() is None
    run = torch.ops.seq2seq.recurrence
    with pytest.raises(RuntimeError, match="expected products in float or bfloat16, got Double"):
        run(*arguments(dtype=torch.double, save=False))
    u, weight, h, c, vectors, sizes, cell, norm, *settings = arguments(save=False)
    for wrong, message in [
        (
            (u, weight, h, c, vectors, sizes, cell, "batch"),
            "norm=batch: expected none, layer or rms",
        ),
        (
            (u, weight, h, c, vectors, sizes, "rnn", norm),
            "cell=rnn: expected lstm, gru, rnn_tanh or rnn_relu",
        ),
        (
            (u, weight, h, c, vectors[1:], sizes, cell, norm),
            "expected float vectors of 84 elements, got 83",
        ),
        (
            (u, weight, h, c[:1], vectors, sizes, cell, norm),
            r"expected float states \(3, 6\), got \[1, 6\]",
        ),
        (
            (u, weight, h, c, vectors, [3, 3, 2], cell, norm),
            "expected falling batch_sizes that add up to 7",
        ),
        (
            (u, weight, h, c, vectors, [1, 3, 3], cell, norm),
            "expected falling batch_sizes that add up to 7",
        ),
        (
            (u, weight.bfloat16(), h, c, vectors, sizes, cell, norm),
            "expected u and weight_hh of one type",
        ),
        (
            (u, weight, h, c, vectors, sizes, "gru", norm),
            r"expected u \(N, 18\) and weight_hh \(18, 6\)",
        ),
    ]:
        with pytest.raises(RuntimeError, match=message):
            run(*wrong, *settings)


def small(norm="layer", **options):
    torch.manual_seed(0)
    return LSTM(3, 8, norm=norm, backend="fused", **options)


def gradients(layer, run):
    layer.zero_grad()
    run(layer)[0].square().sum().backward()
    return [p.grad for p in layer.parameters()]


X = torch.linspace(-1, 1, 30).view(5, 2, 3)


def test_compiled_it_is_the_same():
    layer = small()
    expected = gradients(layer, lambda m: m(X))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(gradients(layer, lambda m: compiled(X)), expected)


def test_exported_it_is_the_same():
    layer = small().eval()
    exported = torch.export.export(layer, (X,)).module()
    torch.testing.assert_close(exported(X)[0], layer(X)[0])


def test_copies_pickles_and_functional_calls_are_the_same():
    layer = small()
    expected = gradients(layer, lambda m: m(X))
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert all(map(torch.equal, gradients(other, lambda m: m(X)), expected))
    weights = {name: p.detach().clone().requires_grad_() for name, p in layer.named_parameters()}
    torch.func.functional_call(layer, weights, (X,))[0].square().sum().backward()
    assert all(map(torch.equal, [w.grad for w in weights.values()], expected))


def test_activation_checkpointing_is_the_same():
    layer = small()
    expected = gradients(layer, lambda m: m(X))
    assert all(
        map(
            torch.equal, gradients(layer, lambda m: checkpoint(m, X, use_reentrant=False)), expected
        )
    )


def test_anomaly_mode_and_hooks_work():
    layer, seen = small(), []
    layer.register_forward_hook(lambda *a: seen.append("forward"))
    layer.register_full_backward_hook(lambda *a: seen.append("backward"))
    layer.weight_hh_l0.register_hook(lambda g: seen.append("weight"))
    with (
        pytest.warns(UserWarning, match="Anomaly Detection"),
        torch.autograd.detect_anomaly(check_nan=True),
    ):
        gradients(layer, lambda m: m(X.clone().requires_grad_()))
    assert sorted(seen) == ["backward", "forward", "weight"]


@pytest.mark.parametrize("frozen", ["weight_hh_l0", "weight_ih_l0", "gain_ih_l0", "bias_c_l0"])
def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same(frozen):
    layer = small()
    expected = gradients(layer, lambda m: m(X))
    getattr(layer, frozen).requires_grad_(False)
    found = gradients(layer, lambda m: m(X))
    for (name, _), f, e in zip(layer.named_parameters(), found, expected, strict=True):
        assert (f is None) == (name == frozen)
        assert f is None or torch.equal(f, e)


def test_inference_saves_nothing_and_gives_the_same():
    layer = small()
    output, last = layer(X)
    with torch.no_grad():
        torch.testing.assert_close(layer(X), (output, last), rtol=0, atol=0)
    *_, z, c, moments = torch.ops.seq2seq.recurrence(*arguments(save=False))
    assert z.numel() == c.numel() == moments.numel() == 0


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_in_eval_mode_weights_stay_packed_and_the_results_the_same(norm, autocast):
    layer = small(norm, bidirectional=True).eval()
    assert not kept(layer)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        expected = layer(X)
        assert not kept(layer)  # with gradients nothing is kept
        with torch.no_grad():
            found = layer(X)
            packed = kept(layer)
            assert len(packed) == (4 if packs(torch.bfloat16 if autocast else torch.float32) else 0)
            assert all(a is b for a, b in zip(packed, kept(layer, layer(X)), strict=True))
    tolerance = 2e-2 if autocast else 1e-6
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def kept(layer, *_):
    """The packed weights that a layer holds."""
    ready = [ready for types in layer._kept.values() for ready in types.values()]
    return [weight for r in ready for weight in (r.weight_ih, r.weight_hh) if weight.is_mkldnn]


CHANGES = {
    "load_state_dict": lambda layer, weights: layer.load_state_dict(weights),
    "assign": lambda layer, weights: layer.load_state_dict(weights, assign=True),
    "in place": lambda layer, weights: [
        p.copy_(weights[name]) for name, p in layer.named_parameters()
    ],
    "new parameters": lambda layer, weights: [
        setattr(layer, n, torch.nn.Parameter(w)) for n, w in weights.items()
    ],
    "data": lambda layer, weights: (
        [p.data.copy_(weights[n]) for n, p in layer.named_parameters()] and layer.eval()
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_packed_weights_follow_the_parameters(change):
    layer, other = small().eval(), small().eval()
    for name in ("weight_ih_l0", "weight_hh_l0", "gain_c_l0", "bias_ih_l0"):
        torch.nn.init.normal_(getattr(other, name))
    with torch.no_grad():
        before = layer(X)[0]
        change(layer, other.state_dict())
        assert torch.equal(layer(X)[0], other(X)[0])
        assert not torch.equal(layer(X)[0], before)


def test_packed_weights_are_dropped_and_not_copied():
    layer = small().eval()
    for leave in (layer.train, layer.eval, layer.float, lambda: layer.to(torch.double)):
        layer.eval()
        with torch.no_grad():
            layer(X)
        assert kept(layer)
        assert not kept(copy.deepcopy(layer))
        assert not kept(pickle.loads(pickle.dumps(layer)))
        leave()
        assert not kept(layer)


def test_a_functional_call_in_eval_mode_uses_what_it_is_given():
    layer, other = small().eval(), small().eval()
    torch.nn.init.normal_(other.weight_hh_l0)
    with torch.no_grad():
        mine = layer(X)[0]
        assert torch.equal(
            torch.func.functional_call(layer, other.state_dict(), (X,))[0], other(X)[0]
        )
        assert torch.equal(layer(X)[0], mine)


def test_in_inference_mode_it_is_the_same():
    layer = small().eval()
    with torch.no_grad():
        expected = layer(X)
    with torch.inference_mode():
        torch.testing.assert_close(layer(X), expected, rtol=0, atol=0)
        made_here = small().eval()
        torch.testing.assert_close(made_here(X), expected, rtol=1e-6, atol=1e-6)
    assert not kept(made_here)


def test_an_export_in_eval_mode_is_the_same():
    layer = small().eval()
    with torch.no_grad():
        expected = layer(X)
        exported = torch.export.export(layer, (X,)).module()
        torch.testing.assert_close(exported(X), expected, rtol=1e-6, atol=1e-6)


def test_a_backward_pass_after_an_inference_raises():
    with torch.no_grad():
        exported = torch.export.export(small(), (X,)).module()
    with pytest.raises(
        RuntimeError, match="no backward pass can follow a forward pass that ran with save=false"
    ):
        exported(X)[0].sum().backward()


@pytest.mark.parametrize("given", ["output", "h_n", "c_n"])
def test_a_gradient_that_comes_into_one_output_alone(given):
    found = []
    for backend in ("fused", "reference"):
        layer = small()
        layer.backend = backend
        output, (h_n, c_n) = layer(X)
        {"output": output, "h_n": h_n, "c_n": c_n}[given].square().sum().backward()
        found.append([p.grad for p in layer.parameters()])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


def test_torch_func_and_forward_mode_take_the_reference():
    layer = small()
    layer.backend = "auto"
    tangent = torch.ones_like(X)
    results = []
    for backend in ("auto", "reference"):
        layer.backend = backend
        results.append(
            [
                torch.func.jvp(lambda x: layer(x)[0], (X,), (tangent,))[1],
                torch.func.grad(lambda x: layer(x)[0].sum())(X),
            ]
        )
        with forward_ad.dual_level():
            results[-1].append(
                forward_ad.unpack_dual(layer(forward_ad.make_dual(X, tangent))[0]).tangent
            )
    torch.testing.assert_close(*results)
    assert results[0][0].abs().max() > 1e-3


def test_second_derivatives_raise():
    layer, x = small(), X.clone().requires_grad_()
    (first,) = torch.autograd.grad(layer(x)[0].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"no second derivatives: .* backend='reference'"):
        first.sum().backward()


def test_the_graph_can_be_kept_and_walked_twice():
    layer = small()
    total = layer(X)[0].square().sum()
    total.backward(retain_graph=True)
    once = [p.grad.clone() for p in layer.parameters()]
    total.backward()
    torch.testing.assert_close([p.grad for p in layer.parameters()], [2 * g for g in once])


# -- choosing a backend ---

BEYOND = [
    (
        lambda backend: RNN(
            3, 4, norm=config("batch", statistics="sequence_input"), backend=backend
        ),
        "norm.terms=separate",
    ),
    (
        lambda backend: RNN(3, 4, norm=config("layer", terms="separate"), backend=backend),
        "norm.terms=separate",
    ),
    (
        lambda backend: GRU(3, 4, norm=config("layer", terms="joint"), backend=backend),
        "norm.terms=joint",
    ),
    (
        lambda backend: GRU(3, 4, norm=config("layer", group="gate"), backend=backend),
        "norm.group=gate",
    ),
    (
        lambda backend: LSTM(3, 4, norm=config("layer", terms="joint"), backend=backend),
        "norm.terms=joint",
    ),
    (
        lambda backend: LSTM(3, 4, norm=config("layer", cell="carried"), backend=backend),
        "norm.cell=carried",
    ),
    (
        lambda backend: LSTM(3, 4, norm=config("rms", cell="none"), backend=backend),
        "norm.cell=none",
    ),
    (
        lambda backend: LSTM(3, 4, norm=config("rms", group="gate"), backend=backend),
        "norm.group=gate",
    ),
    (
        lambda backend: LSTM(3, 4, dtype=torch.double, backend=backend),
        "parameters of torch.float64",
    ),
    (lambda backend: LSTM(3, 4, device="meta", backend=backend), "device meta"),
]


@pytest.fixture
def logged(caplog):
    """What the backends log, as if for the first time."""
    ops.LOGGED.clear()
    caplog.set_level(logging.INFO, logger="seq2seq.rnn.backends")
    return caplog


@pytest.mark.parametrize(("make", "what"), BEYOND, ids=[what for _, what in BEYOND])
def test_what_is_beyond_the_kernels_raises_when_asked_for_by_name(make, what):
    with pytest.raises(
        RuntimeError, match=f"backend='fused': the fused kernels do not support {what}"
    ):
        make("fused")


@pytest.mark.parametrize(("make", "what"), BEYOND[:-1], ids=[what for _, what in BEYOND[:-1]])
def test_auto_takes_the_reference_for_it_and_logs_it_once(make, what, logged):
    layer = make("auto")
    x = torch.randn(2, 3, 3, dtype=layer.weight_hh_l0.dtype)
    assert layer(x)[0].grad_fn is not None
    layer(x)
    assert [r.getMessage() for r in logged.records] == [
        f"recurrent layers run in plain torch (backend=reference) for {what}"
    ]


def test_auto_takes_the_fused_kernels_and_logs_it_once(logged, monkeypatch):
    calls = []
    monkeypatch.setattr(
        ops.fused, "recurrence", lambda *a: calls.append(a) or ops.reference.recurrence(*a)
    )
    for layer in (LSTM(3, 4), LSTM(3, 4, norm="none", bidirectional=True)):
        layer(X)
    assert len(calls) == 3
    assert [r.getMessage() for r in logged.records] == [
        "recurrent layers run in fused CPU kernels (backend=fused)"
    ]


def test_half_precision_autocast_is_beyond_the_kernels():
    layer = small()
    with (
        torch.autocast("cpu", torch.float16),
        pytest.raises(RuntimeError, match=r"autocast to torch\.float16"),
    ):
        layer(X)


def test_the_reference_is_taken_where_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(ops.fused, "recurrence", lambda *a: pytest.fail("fused"))
    LSTM(3, 4, backend="reference")(X)


def test_moved_to_a_type_beyond_the_kernels_a_layer_raises():
    layer = small().double()
    with pytest.raises(RuntimeError, match=r"do not support parameters of torch\.float64"):
        layer(X.double())


# -- compiling ---

RUN = """
import logging, sys
import torch
from seq2seq.rnn import LSTM
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
torch.manual_seed(0)
layer = LSTM(3, 4, norm="layer", backend=sys.argv[1])
print(layer(torch.ones(2, 2, 3))[0].sum().item())
"""


def in_a_process(backend, folder, code=RUN, **environment):
    """A new process that runs a layer, its extension cache in this folder."""
    env = {**os.environ, "TORCH_EXTENSIONS_DIR": str(folder), **environment}
    return subprocess.Popen(
        [sys.executable, "-c", code, backend],
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_without_a_compiler_fused_raises_and_auto_takes_the_reference(tmp_path):
    processes = {
        backend: in_a_process(backend, tmp_path, CXX="no-such-compiler")
        for backend in ("fused", "auto")
    }
    (_, fused), (output, auto) = (p.communicate() for p in processes.values())
    assert (
        "RuntimeError: backend='fused': no C++ compiler: no-such-compiler was not found;"
        " expected g++" in fused
    )
    assert processes["auto"].returncode == 0, auto
    assert float(output)
    warnings = [line for line in auto.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == 1
    assert "run in plain torch (backend=reference), more slowly: no C++ compiler" in warnings[0]


@pytest.mark.parametrize(
    ("compiler", "cause"), [("g++ '-O2", "No closing quotation"), ("true", "No such file")]
)
def test_whatever_goes_wrong_with_the_compiler_auto_goes_on(tmp_path, compiler, cause):
    process = in_a_process("auto", tmp_path, CXX=compiler)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert float(output)
    assert cause in errors


def test_a_compiler_that_fails_is_quoted(tmp_path):
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\nfor i in $(seq 30); do echo line $i >&2; done\nexit 3\n")
    compiler.chmod(0o755)
    process = in_a_process("fused", tmp_path, CXX=str(compiler))
    _, errors = process.communicate()
    assert f"{compiler} failed with exit status 3:\nline 19\n" in errors
    assert errors.rstrip().endswith("line 30")


def test_two_processes_compile_once_and_a_broken_library_is_remade(tmp_path):
    started = [in_a_process("auto", tmp_path) for _ in range(2)]
    outputs, errors = zip(*(p.communicate() for p in started), strict=True)
    assert [p.returncode for p in started] == [0, 0], errors
    assert len(set(outputs)) == 1
    assert (
        sum("compiling the fused kernels into" in e and "half a minute" in e for e in errors) == 1
    )
    assert all("INFO recurrent layers run in fused CPU kernels" in e for e in errors)

    (library,) = tmp_path.rglob(build.LIBRARY)
    library.write_bytes(library.read_bytes()[:1000])
    again = in_a_process("auto", tmp_path)
    output, complaint = again.communicate()
    assert (again.returncode, output) == (0, outputs[0]), complaint
    assert "is damaged" in complaint
    assert "compiling" in complaint


LOAD = """
import logging
import torch
from seq2seq.rnn import LSTM, load_kernels
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
print(load_kernels("cpu"), load_kernels("cpu", "fused"), load_kernels(backend="reference"))
logging.warning("loaded")
LSTM(3, 4)(torch.ones(2, 2, 3))
"""


@pytest.mark.slow
def test_kernels_are_compiled_ahead_and_announced_in_one_line(tmp_path):
    done = in_a_process("auto", tmp_path, LOAD).communicate()
    assert done[0] == "True True False\n", done
    before, after = done[1].split("WARNING loaded\n")
    warnings = [line for line in before.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == 1
    assert "compiling the fused kernels into" in warnings[0]
    assert "half a minute" in warnings[0]
    assert after == ""  # the first layer neither compiles nor logs


def test_kernels_that_cannot_be_compiled_are_reported_when_loaded(tmp_path):
    code = LOAD.replace("print(load", "print(load_kernels())\nprint(load")
    process = in_a_process("auto", tmp_path, code, CXX="no-such-compiler")
    output, errors = process.communicate()
    assert output == "False\n"
    assert errors.count("more slowly: no C++ compiler") == 1
    assert "RuntimeError: backend='fused': no C++ compiler: no-such-compiler" in errors


def test_a_gpus_kernels_are_loaded_only_where_layers_use_them(monkeypatch):
    asked = []
    monkeypatch.setattr(operators, "gpu_failure", lambda: asked.append("gpu"))
    assert not ops.load_kernels("cuda:1")
    assert asked == []
    assert ops.load_kernels("cuda:1", "fused")
    assert asked == ["gpu"]


def test_loading_refuses_a_backend_that_is_none():
    with pytest.raises(ValueError, match="backend='cuda': expected 'auto', 'reference' or 'fused'"):
        ops.load_kernels(backend="cuda")


def test_a_change_of_compiler_or_flags_makes_another_library(monkeypatch):
    before = build.cache()
    monkeypatch.setenv("CXX", "clang++ -O1")
    assert build.cache() != before
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(build, "COMPILE_FLAGS", [*build.COMPILE_FLAGS, "-g"])
    assert build.cache() != before
