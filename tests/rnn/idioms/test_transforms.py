"""Derivatives of several kinds, checkpointing, hooks, tracing."""

import copy
import warnings
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import torch
from idiom_cases import BACKENDS, NORMS, OURS, ours, same_weights, tensors_of, torchs
from oracles import config
from torch import Tensor, nn
from torch.export import Dim, export
from torch.func import functional_call, grad, jacrev, jvp, stack_module_state, vmap
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils.checkpoint import checkpoint

from seq2seq.rnn import LSTM

X = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(0))


# -- derivatives ---


def penalty(layer: Any) -> list[Tensor]:
    """Return the gradients of a gradient penalty, as of a critic (Gulrajani et al. 2017)."""
    x = X.clone().requires_grad_()
    [gradient] = torch.autograd.grad(layer(x)[0].square().sum(), x, create_graph=True)
    (gradient.flatten(1).norm(dim=1) - 1).square().sum().backward()
    return [p.grad for p in layer.parameters() if p.grad is not None]


@pytest.mark.parametrize("cell", OURS)
def test_second_derivatives_are_those_of_torch(cell: str) -> None:
    theirs, mine = same_weights(cell, 5, 4)
    torch.testing.assert_close(penalty(mine), penalty(theirs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", OURS)
def test_other_derivatives_run(cell: str, norm: str) -> None:
    """torch.nn.LSTM has no forward-mode derivatives."""
    layer = ours(cell, norm)(5, 4).eval()
    plain = copy.deepcopy(layer)
    plain.backend = "reference"
    tangent = torch.ones_like(X)
    found = jvp(lambda x: layer(x)[0], (X,), (tangent,))[1]
    epsilon = 1e-3
    with torch.no_grad():
        ends = [layer(X + sign * epsilon * tangent)[0] for sign in (1, -1)]
    torch.testing.assert_close(found, (ends[0] - ends[1]) / (2 * epsilon), rtol=0.05, atol=1e-2)
    gradients = [jacrev(lambda x, m=m: m(x)[0].square().sum())(X) for m in (layer, plain)]
    torch.testing.assert_close(*gradients)


# -- many models and devices ---


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", OURS)
def test_vmap_runs_stacked_models(cell: str, norm: str) -> None:
    """torch.nn's layers have no batching rule."""
    models = [ours(cell, norm)(5, 4) for _ in range(3)]
    for number, model in enumerate(models):
        model((number + 1) * X)  # statistics of their own
        model.eval()
    parameters, buffers = stack_module_state(models)
    base = copy.deepcopy(models[0]).to("meta")

    def run(p: Any, b: Any, x: Tensor) -> Tensor:
        found: Tensor = functional_call(base, (p, b), (x,))[0]
        return found

    found = vmap(run, in_dims=(0, 0, None))(parameters, buffers, X)
    expected = torch.stack([m(X)[0] for m in models])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", OURS)
def test_vmap_trains_stacked_models(cell: str, norm: str) -> None:
    """Batch norm's statistics of each model are updated in the stacked buffers."""
    models = [ours(cell, norm)(5, 4) for _ in range(3)]
    parameters, buffers = stack_module_state(models)
    base = copy.deepcopy(models[0]).to("meta")

    def loss(p: Any, b: Any, x: Tensor) -> Tensor:
        found: Tensor = functional_call(base, (p, b), (x,))[0].square().sum()
        return found

    gradients = vmap(grad(loss), in_dims=(0, 0, None))(parameters, buffers, X)
    for i, model in enumerate(models):
        model(X)[0].square().sum().backward()
        for name, p in model.named_parameters():
            torch.testing.assert_close(gradients[name][i], p.grad, rtol=1e-3, atol=1e-4)
        for name, b in model.named_buffers():
            torch.testing.assert_close(buffers[name][i], b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", OURS)
def test_vmap_runs_stacked_inputs(cell: str, norm: str) -> None:
    layer = ours(cell, norm)(5, 4).eval()
    xs = torch.stack([X, X.flip(0)])
    found = vmap(lambda x: layer(x)[0])(xs)
    torch.testing.assert_close(found, torch.stack([layer(x)[0] for x in xs]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", OURS)
def test_meta_devices_give_shapes(cell: str, norm: str) -> None:
    found = []
    for make in (torchs(cell), ours(cell, norm)):
        layer = make(5, 4, 2, bidirectional=True, device="meta")
        results = tensors_of(layer(X.to("meta")))
        assert {t.device.type for t in results} == {"meta"}
        found.append([t.shape for t in results])
        with torch.device("meta"):
            assert make(5, 4)(torch.zeros(6, 3, 5))[0].device.type == "meta"
    assert found[0] == found[1]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", OURS)
def test_weights_made_on_a_meta_device_are_initialised_later(cell: str, norm: str) -> None:
    with torch.device("meta"):
        layer = ours(cell, norm)(5, 4)
    layer.to_empty(device="cpu")
    torch.manual_seed(0)
    layer.reset_parameters()
    torch.manual_seed(0)
    fresh = ours(cell, norm)(5, 4)
    assert layer.state_dict().keys() == fresh.state_dict().keys()
    torch.testing.assert_close(layer.state_dict(), fresh.state_dict())
    torch.testing.assert_close(layer(X), fresh(X))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", OURS)
def test_many_backward_passes_at_once_are_those_one_by_one(
    cell: str, norm: str, training: bool
) -> None:
    layer = ours(cell, norm)(5, 4).train(training)
    jacobian = partial(torch.autograd.functional.jacobian, lambda x: layer(x)[0], X[:3])
    torch.testing.assert_close(jacobian(vectorize=True), jacobian(), rtol=1e-4, atol=1e-4)
    weights, output = list(layer.parameters()), layer(X)[0]
    upstream = torch.randn(2, *output.shape)
    both = torch.autograd.grad(output, weights, upstream, is_grads_batched=True, retain_graph=True)
    assert not any(g.requires_grad for g in both)
    for i, one in enumerate(upstream):
        apart = torch.autograd.grad(output, weights, one, retain_graph=True)
        torch.testing.assert_close([g[i] for g in both], list(apart), rtol=1e-4, atol=1e-4)


# -- recomputation and hooks ---


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("norm", NORMS)
def test_checkpointing_gives_the_same_gradients(norm: str, reentrant: bool, backend: str) -> None:
    layer = ours("LSTM", norm, backend)(5, 4, 2, dropout=0.5)
    found = []
    for run in (layer, lambda x: checkpoint(layer, x, use_reentrant=reentrant)):
        torch.manual_seed(0)
        layer.zero_grad()
        x = X.clone().requires_grad_()
        run(x)[0].square().sum().backward()
        assert x.grad is not None
        found.append([x.grad, *(p.grad for p in layer.parameters())])
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reentrant", [True, False])
def test_a_repeated_pass_reads_no_statistics_that_have_changed(
    reentrant: bool, backend: str
) -> None:
    """Steps of few rows read the running averages, which the first pass has changed."""
    layer = LSTM(5, 4, norm=config("batch", min_rows=3), backend=backend)
    packed = pack_padded_sequence(X, torch.tensor([6, 4, 4]))
    data = packed.data.clone().requires_grad_()
    run = partial(_packed_output, layer, packed.batch_sizes)
    run(data).sum().backward()
    with pytest.raises(RuntimeError, match=r"norm\.min_rows=3 rows would read changed running"):
        checkpoint(run, data, use_reentrant=reentrant).sum().backward()
    layer.running_statistics.eval()
    expected = torch.autograd.grad(run(data).sum(), data)
    data.grad = None
    checkpoint(run, data, use_reentrant=reentrant).sum().backward()
    torch.testing.assert_close((data.grad,), expected)


def _packed_output(layer: nn.Module, batch_sizes: Tensor, data: Tensor) -> Tensor:
    output: Tensor = layer(PackedSequence(data, batch_sizes))[0].data
    return output


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("cell", OURS)
def test_hooks_run_as_in_torch(cell: str, norm: str) -> None:
    found = []
    for make in (torchs(cell), ours(cell, norm)):
        layer, seen = make(5, 4), list[Any]()
        layer.register_forward_pre_hook(lambda *_, s=seen: s.append("before"))
        layer.register_forward_hook(lambda *_, s=seen: s.append("after"))
        layer.register_full_backward_hook(
            lambda _, into, out, s=seen: s.append(([x.shape for x in into], len(out)))
        )
        doubled = layer.weight_hh_l0.register_hook(lambda g: 2 * g)
        layer(X.clone().requires_grad_())[0].square().sum().backward()
        gradient = layer.weight_hh_l0.grad.clone()
        doubled.remove()
        layer.zero_grad()
        if norm != "batch":  # whose statistics changed nothing in training
            layer(X.clone().requires_grad_())[0].square().sum().backward()
            torch.testing.assert_close(gradient, 2 * layer.weight_hh_l0.grad)
        found.append(seen[:3])
    assert found[0] == found[1]


@pytest.mark.parametrize("norm", NORMS)
def test_a_hook_may_replace_the_input_and_the_output(norm: str) -> None:
    layer = ours("LSTM", norm)(5, 4).eval()
    layer.register_forward_pre_hook(lambda _, arguments: (arguments[0] * 0,))
    layer.register_forward_hook(lambda _, arguments, result: result[0])
    plain = copy.deepcopy(layer)
    assert torch.equal(layer(X), plain(torch.zeros_like(X)))


# -- export and older tools ---


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "norm", [pytest.param(norm, marks=[pytest.mark.slow] * (norm != "layer")) for norm in NORMS]
)
def test_an_exported_layer_takes_any_length(norm: str) -> None:
    """An exported layer of torch.nn has as many steps as its example.

    Fast tests of test_export.py export every norm.
    """
    lengths = ({0: Dim("T", min=2, max=100), 1: Dim("B", min=2, max=100)},)
    with torch.no_grad():
        with pytest.raises(torch._dynamo.exc.UserError):
            export(torchs("LSTM")(5, 4).eval(), (X,), dynamic_shapes=lengths)
        layer = ours("LSTM", norm)(5, 4).eval()
        exported = export(layer, (X,), dynamic_shapes=lengths).module()
        longer = torch.cat([X, X])[:, :2]
        torch.testing.assert_close(exported(longer), layer(longer), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("norm", NORMS)
def test_a_trace_is_right_or_fails_for_other_shapes(norm: str, backend: str) -> None:
    """The traces of torch.nn's layers take all shapes; torch.export does so here."""
    layer = LSTM(5, 4, norm=norm, backend=backend).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(layer, (X,), check_trace=False)
    torch.testing.assert_close(traced(X), layer(X))
    for other in (X.repeat(1, 2, 1), X.repeat(2, 1, 1), X[:3], X[:, :2]):
        with suppress(RuntimeError):
            torch.testing.assert_close(traced(other), layer(other))


@pytest.mark.parametrize("norm", NORMS)
def test_scripting_is_refused(norm: str) -> None:
    layer, script = ours("LSTM", norm)(5, 4), torch.jit.script
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.raises(torch.jit.frontend.NotSupportedError):
            script(layer)


class Model(nn.Module):
    """A model with a layer inside."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.layer(x)[0] * 2
        return output


class LeafTracer(torch.fx.Tracer):
    """A tracer that leaves our layers whole, as it does torch's by itself."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LSTM) or super().is_leaf_module(m, module_qualified_name)


@pytest.mark.parametrize("norm", NORMS)
def test_a_symbolic_trace_needs_the_layer_as_a_leaf(norm: str) -> None:
    torch.fx.symbolic_trace(Model(torchs("LSTM")(5, 4)))
    model = Model(ours("LSTM", norm)(5, 4)).eval()
    with pytest.raises(torch.fx.proxy.TraceError):
        torch.fx.symbolic_trace(model)
    traced = torch.fx.GraphModule(model, LeafTracer().trace(model))
    torch.testing.assert_close(traced(X), model(X))


def test_dynamic_quantisation_by_type_finds_torchs_layers_alone() -> None:
    model = nn.ModuleList([ours("LSTM")(5, 4), torchs("LSTM")(5, 4)])
    assert [isinstance(m, nn.LSTM) for m in model] == [False, True]
