"""Whole translators as contestants, by small runs of scripts/benchmark.py on the built-in corpus."""

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TrainHere
from matplotlib.image import imread
from runs import Command, Script

from seq2seq.app.composition import compose_here
from seq2seq.benchmark import floor, trained, training
from seq2seq.benchmark.contestants import Contestant, contestants
from seq2seq.benchmark.decoding import new_search, plain_translator
from seq2seq.benchmark.figure import norm_of
from seq2seq.benchmark.plain import as_plain
from seq2seq.benchmark.plain_search import search_in_batches
from seq2seq.benchmark.trained import trained_run
from seq2seq.benchmark.workload import PEERS, preset, workload
from seq2seq.config import DecodeConfig, ModelConfig, TextOrigin
from seq2seq.device import set_threads

pytest_plugins = ["run_fixtures"]


@pytest.fixture
def measure(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    threads = torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    yield script("benchmark")
    torch.set_num_threads(threads)


SMALL = ("--size", "small", "--rounds", 1, "--threads", 1)
OURS = ["norm=none", "norm=layer"]


def figures(done: Any, file: Path) -> dict[str, Any]:
    """Return what a command that succeeded has written."""
    assert (done.code, done.err) == (0, "")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_training_is_measured(measure: Command, tmp_path: Path) -> None:
    file, figure = tmp_path / "a.json", tmp_path / "a.png"
    chosen = ("--norms", "none,layer", "--feeding", "--updates", 2)
    done = measure("train", *SMALL, *chosen, "--json", file, "--figure", figure)
    results = figures(done, file)
    [(title, rows)] = results["tables"].items()
    assert title.startswith("training, grammar_en_zh: 2 updates, 16 sentences, ")
    assert [row["name"] for row in rows] == [
        "plain nn.LSTM",
        *(f"{name}{mark}" for name in OURS for mark in ("", ", sorted")),
        "plain nn.LSTM, input feeding",
        *(f"{name}, input feeding{mark}" for name in OURS for mark in ("", ", sorted")),
        "products alone",
        "products alone, input feeding",
    ]
    assert all(row["per_second"] > 0 for row in rows)
    assert rows[0]["ratio"] == 1
    lines = done.out.splitlines()
    assert lines[1].rstrip() == title
    assert lines[2].split() == ["tokens/s", "ratio", "quartiles"]
    assert lines[-1].startswith("products alone")
    assert "model=tiny" in results["settings"]
    assert imread(figure).std() > 0.01


def test_training_is_measured_in_bfloat16_too(measure: Command, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    chosen = ("--norms", "none", "--updates", 1, "--precisions", "fp32,bf16")
    done = measure("train", *SMALL, *chosen, "--json", file)
    [rows] = json.loads(file.read_text())["tables"].values()
    assert done.code == 0
    assert [row["name"] for row in rows] == [
        "plain nn.LSTM", "norm=none", "norm=none, sorted",
        "plain nn.LSTM, bf16", "norm=none, bf16", "norm=none, bf16, sorted",
        "products alone", "products alone, bf16",
    ]  # fmt: skip
    refused = measure("train", *SMALL, "--precisions", "fp32,fp16")
    assert refused.code == 2
    assert "expected one of fp32, bf16" in refused.err


def test_search_is_measured_on_translators_that_are_kept(measure: Command, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    chosen = ("--data", "grammar_en_zh", "--norms", "layer", "--trained", 3, "--sentences", 5)
    results = figures(measure("decode", *SMALL, *chosen, "--json", file), file)
    assert list(results["tables"]) == [
        "greedy, grammar_en_zh: 5 sentences in batches of 320",
        "beam 5, grammar_en_zh: 5 sentences in batches of 64",
    ]
    for rows in results["tables"].values():
        names = [row["name"] for row in rows]
        assert names == ["plain nn.LSTM", "norm=layer", "products alone"]
        assert [row["pieces"] is None for row in rows] == [False, False, True]
    weights = sorted((tmp_path / "outputs/benchmark/grammar_en_zh").glob("*/checkpoints/*"))
    assert [path.parts[-3] for path in weights] == ["layer-3", "none-3"]
    before = [path.stat().st_mtime_ns for path in weights]
    figures(measure("decode", *SMALL, *chosen, "--json", file), file)
    assert [path.stat().st_mtime_ns for path in weights] == before
    figures(measure("decode", *SMALL, *chosen, "--json", file, "--set", "seed=2"), file)
    assert all(path.stat().st_mtime_ns > old for path, old in zip(weights, before, strict=True))


def test_search_is_measured_in_several_precisions(measure: Command, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    chosen = ("--norms", "layer", "--trained", 2, "--sentences", 3, "--precisions", "fp32,bf16")
    results = figures(measure("decode", *SMALL, *chosen, "--json", file), file)
    for rows in results["tables"].values():
        assert [row["name"] for row in rows] == [
            *("plain nn.LSTM", "norm=layer"),
            *("plain nn.LSTM, bf16", "norm=layer, bf16"),
            *("products alone", "products alone, bf16"),
        ]


def test_search_with_a_shortlist_is_measured_beside_the_exact_one(
    measure: Command, tmp_path: Path
) -> None:
    file = tmp_path / "a.json"
    chosen = ("--norms", "none", "--trained", 2, "--sentences", 3, "--set", "decode.shortlist=20")
    done = measure("decode", *SMALL, *chosen, "--json", file)
    assert done.code == 0
    for rows in json.loads(file.read_text())["tables"].values():
        names = [row["name"] for row in rows]
        assert names == ["plain nn.LSTM", "norm=none", "norm=none, shortlist", "products alone"]


def test_each_command_explains_only_its_own_options(measure: Command) -> None:
    options = {name: measure(name, "--help").out for name in ("layers", "train", "decode")}
    assert [name for name, text in options.items() if "--compile" in text] == ["layers"]
    assert [name for name, text in options.items() if "--updates" in text] == ["train"]
    assert [name for name, text in options.items() if "--sentences" in text] == ["decode"]
    assert "layers" in measure("--help").out


# -- contestants ---


def test_the_rival_has_the_weights_and_translations_of_no_norm(
    train_here: TrainHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = train_here.config("norm=none")
    work = workload(config, 2, 20)
    rival, ours = contestants(config, {"none": config}, feeding=False)
    runs = [trained_run(contestant, work.prepared, 30) for contestant in (rival, ours)]
    assert runs[0].folder == runs[1].folder
    for beam in (1, 5):
        decode = DecodeConfig(beam_size=beam, batch_size=8)
        found, expected = (
            new_search(contestant, runs[0])[1](work.sentences, decode)
            for contestant in (rival, ours)
        )
        assert found == expected
        assert len({tuple(ids) for ids in found}) > 1
    plain = plain_translator(runs[0], config)
    assert search_in_batches(plain, work.sentences, decode)[0] == expected


def test_a_run_of_another_version_is_trained_again(
    train_here: TrainHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = train_here.config("norm=none")
    prepared = workload(config, 1, 1).prepared
    run = trained_run(Contestant(config, "none"), prepared, 1)
    run.config_file.write_text("nothing: 1\n")
    assert trained_run(Contestant(config, None), prepared, 1).config() == config


@pytest.mark.parametrize("step", ["save_checkpoint", "first_batches"])
def test_a_run_that_was_interrupted_is_trained_again(
    step: str, train_here: TrainHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    one, two = (train_here.config("norm=none", f"seed={seed}") for seed in (1, 2))
    prepared = workload(one, 1, 1).prepared
    run = trained_run(Contestant(one, "none"), prepared, 1)
    weights = run.checkpoint("best").read_bytes()
    save = getattr(trained, step)

    def interrupt(*given: Any) -> None:
        save(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trained, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            trained_run(Contestant(two, "none"), prepared, 1)
    assert not trained.is_of(run, one)
    assert not trained.is_of(run, two)
    trained_run(Contestant(one, "none"), prepared, 1)
    assert run.checkpoint("best").read_bytes() == weights


def test_updates_of_both_translators_learn(train_here: TrainHere) -> None:
    config = train_here.config("norm=none")
    work = workload(config, 4, 1)
    for norm in (None, "none"):
        model, update = training.new_update(Contestant(config, norm), work.prepared.tokenizers)
        batch = work.train.batch(work.batches[0])
        inputs = batch.src, batch.src_lengths, batch.tgt, batch.tgt_lengths
        losses = []
        for _ in range(5):
            with torch.no_grad():
                loss = model(*inputs, 0.1)
            losses.append(float(loss if norm is None else loss[0]))
            for _ in range(3):
                update(batch)
        assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("clip_norm", [0.01, 1e6], ids=["all are clipped", "none is clipped"])
def test_updates_of_both_translators_are_the_same(train_here: TrainHere, clip_norm: float) -> None:
    """Batches differ in tokens and in gradient norm, to which Adam is blind in its first update."""
    short = ["data.batch_tokens=null", "data.batch_sentences=3", "data.bucket_batches=20"]
    clip = f"optimizer.clip_norm={clip_norm}"
    config = train_here.config("norm=none", "model.dropout=0", "optimizer.lr=0.02", clip, *short)
    work = workload(config, 6, 1)
    (plain, theirs), (model, ours) = (
        training.new_update(Contestant(config, norm), work.prepared.tokenizers)
        for norm in (None, "none")
    )
    plain.load_state_dict(as_plain(model.state_dict(), False))
    for indices in work.batches:
        theirs(work.train.batch(indices))
        ours(work.train.batch(indices))
    expected = as_plain(model.state_dict(), False)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=3e-4, msg=name)


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_rival_trains_in_the_type_of_its_name(
    train_here: TrainHere, name: str, dtype: torch.dtype
) -> None:
    config = train_here.config("norm=none", f"trainer.precision={name}")
    work = workload(config, 1, 1)
    model, update = training.new_update(Contestant(config, None), work.prepared.tokenizers)
    found = []
    model.get_submodule("output").register_forward_hook(lambda *given: found.append(given[2].dtype))
    update(work.train.batch(work.batches[0]))
    assert found == [dtype]


@pytest.mark.parametrize("by_length", [False, True])
def test_the_first_task_is_the_longest_batch_and_the_second_all(
    train_here: TrainHere, by_length: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = train_here.config("norm=none")
    work, made = workload(config, 4, 1), list[list[int]]()
    monkeypatch.setattr(
        training, "new_update", lambda *_: (None, lambda b: made.append(b.indices.tolist()))
    )
    first, task = training.updates(work, Contestant(config, "none", by_length))
    task()
    expected = work.by_length if by_length else work.batches
    assert made == [batch.tolist() for batch in expected]
    first()
    assert made[-1] == max(made[:-1], key=lambda batch: work.train.tgt_lengths[batch].max())
    assert by_length == (made[-1] == made[-2])


def test_both_orders_have_the_same_sentences(train_here: TrainHere) -> None:
    work = workload(train_here.config("data.batch_sentences=20"), 6, 10)
    assert [len(batch) for batch in work.batches] == [20] * 6
    assert sorted(np.concatenate(work.batches)) == sorted(np.concatenate(work.by_length))
    lengths = [work.train.tgt_lengths[batch] for batch in work.by_length]
    assert all(a.max() <= b.min() for a, b in pairwise(lengths))
    assert work.tokens == sum(length.sum() for length in lengths)
    many = workload(train_here.config("data.batch_sentences=20"), 30, 10)
    assert len(many.batches) == 30  # more than an epoch


def test_presets_write_the_sizes_out() -> None:
    assert preset(TextOrigin.published, "full") == PEERS
    assert preset(TextOrigin.grammar, "full") == ()
    assert preset(TextOrigin.files, "small")[0] == "model=tiny"
    composed = compose_here(["data=tatoeba_en_zh", *PEERS, "norm=layer"])
    assert (composed.tokenizer.vocab_size, composed.data.batch_sentences) == (8000, 64)
    assert (composed.model.hidden_size, composed.norm.kind.name) == (512, "layer")
    assert set(preset(TextOrigin.files, "small")) < set(preset(TextOrigin.grammar, "small"))


@pytest.mark.parametrize(
    ("name", "norm"),
    [("norm=layer", "layer"), ("norm=rms, input feeding, sorted", "rms"), ("plain nn.LSTM", "")],
)
def test_a_bar_has_the_colour_of_its_norm(name: str, norm: str) -> None:
    assert norm_of(name) == norm


# -- the floor ---


def count(products: Any) -> int:
    """Return the multiply-adds of products."""
    return sum(rows * inner * columns for rows, inner, columns, _ in products)


def test_the_floor_has_the_products_of_a_translator() -> None:
    config = replace(ModelConfig(), embedding_size=3, hidden_size=4)
    src, tgt = np.array([3, 1]), np.array([2, 4])
    found = count(floor.training_products(config, 10, src, tgt))
    encoder = 2 * 4 * (3 * 8 + 2 * 8)  # two directions, four words
    bridge, keys = 2 * 2 * 4 * 4, 4 * 4 * 4
    decoder = 6 * (3 * 16 + 4 * 16 + 8 * 4 + 4 * 10)  # six words
    assert found == 3 * (encoder + bridge + keys + decoder)
    searched = count(floor.search_products(config, 10, src, rows=[2, 4]))
    assert searched == encoder + bridge + keys + decoder
    fed = replace(config, input_feeding=True)
    more = 6 * 4 * 16  # h~ of the last step is part of the input
    assert count(floor.training_products(fed, 10, src, tgt)) == found + 3 * more
    assert count(floor.search_products(fed, 10, src, rows=[2, 4])) == searched + more


def test_every_way_computes_a_product_of_its_shape() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        found = [way() for way in floor.ways(5, 6, 7, True, dtype)]
        assert {tuple(x.shape) for x in found} == {(5, 7), (7, 5)}  # type: ignore[attr-defined]
        assert {x.dtype for x in found} == {dtype}  # type: ignore[attr-defined]


def test_the_fastest_way_is_taken_for_shapes_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    set_threads(1)
    times = iter([3.0, 1.0, 2.0, 4.0])
    monkeypatch.setattr(floor, "shortest_time", lambda task: next(times))
    products = floor.Floor()
    products.task([(5, 6, 7, False), (6, 6, 7, False), (7, 5, 7, False)])()
    assert list(products.fastest.values()) == [1]
