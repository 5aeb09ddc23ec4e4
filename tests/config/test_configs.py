"""configs/: every file composes, what comes out has the types of seq2seq.config, and every choice
can be made.
"""

import ast
import importlib.util
import re
import sys
import types
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Union, get_args, get_origin, get_type_hints

import pytest
import synthetic
from hydra import compose, initialize_config_dir
from omegaconf.errors import OmegaConfBaseException

from seq2seq.app import composition, prepare, train
from seq2seq.app.exit_codes import guarded
from seq2seq.config import Backend, CellKind, Config, Origin, TokenizerKind
from seq2seq.data.tokenizer_training import LEAST_PIECES
from seq2seq.rnn import NormKind

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("data", "tokenizer", "norm", "cell", "model", "optimizer", "trainer", "decode", "probe")
CHOICES = {
    group: sorted(path.stem for path in (ROOT / "configs" / group).glob("*.yaml"))
    for group in GROUPS
}


@pytest.fixture(scope="module")
def composed():
    """The configuration of these overrides, and each is composed once."""
    composition.register()
    known = {}

    def make(*overrides, name="train"):
        if (name, overrides) not in known:
            with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
                known[name, overrides] = composition.composed(compose(name, list(overrides)))
        return known[name, overrides]

    return make


def wrong(value, hint, path=""):
    """Where a value, or what it holds, is not of its type."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return [] if any(not wrong(value, part) for part in parts) else [f"{path}={value!r}"]
    if origin is dict:
        return [
            w
            for k, v in value.items()
            for w in wrong(k, parts[0], path) + wrong(v, parts[1], f"{path}.{k}")
        ]
    if origin is tuple:
        return [] if [type(v) for v in value] == list(parts) else [f"{path}={value!r}"]
    if origin is list:
        return [w for i, v in enumerate(value) for w in wrong(v, parts[0], f"{path}[{i}]")]
    if type(value) is not hint:
        return [f"{path}={value!r}"]
    if is_dataclass(hint):
        return [
            w
            for name, kind in get_type_hints(hint).items()
            for w in wrong(getattr(value, name), kind, f"{path}.{name}" if path else name)
        ]
    return []


def test_wrong_types_are_noticed():
    config = Config()
    assert wrong(config, Config) == []
    config.optimizer.lr, config.norm.kind, config.optimizer.betas = 1, "layer", (0.9, 1)
    config.data.more_tests = {"a": {}}
    assert sorted(w.partition("=")[0] for w in wrong(config, Config)) == [
        "data.more_tests.a",
        "norm.kind",
        "optimizer.betas",
        "optimizer.lr",
    ]


# -- every file ---


def test_every_group_has_files_and_every_file_a_group():
    assert all(CHOICES.values())
    folders = {path.name for path in (ROOT / "configs").iterdir() if path.is_dir()}
    assert set(GROUPS) == {f.name for f in fields(Config) if is_dataclass(f.type)}
    assert folders - {"hydra", "experiment", "size"} == set(GROUPS)


@pytest.mark.parametrize(
    ("group", "choice"), [(group, choice) for group in GROUPS for choice in CHOICES[group]]
)
def test_every_file_composes_alone(composed, group, choice):
    config = composed(f"{group}={choice}")
    assert wrong(config, Config) == []
    kind = getattr(getattr(config, group), "kind", None)
    if group in ("norm", "cell", "tokenizer", "optimizer"):
        assert kind.value == choice.partition("_")[0]
    if group == "data" and choice != "files":
        assert config.data.name == choice
    assert config.tokenizer.vocab_size == config.data.vocab_size
    assert config.tokenizer.joint == config.data.joint
    assert config.trainer.max_epochs == config.data.epochs


@pytest.mark.parametrize("norm", CHOICES["norm"])
def test_every_file_composes_with_every_norm(composed, norm):
    """The settings of a norm are the same whatever the rest is."""
    alone = composed(f"norm={norm}").norm
    for i in range(max(len(CHOICES[group]) for group in GROUPS if group not in ("norm", "data"))):
        chosen = {
            group: CHOICES[group][i % len(CHOICES[group])] for group in GROUPS if group != "norm"
        }
        config = composed(
            f"norm={norm}", *(f"{group}={choice}" for group, choice in chosen.items())
        )
        assert config.norm == alone
        assert wrong(config, Config) == []
        assert config.cell.kind.value == chosen["cell"]


def test_an_unknown_choice_or_key_is_refused(composed):
    from hydra.errors import HydraException

    for override in (
        "norm=nothing",
        "norm.epsilon=1",
        "optimizer.lr=fast",
        "norm.kind=group",
        "seed=one",
        "model.attention=hard",
        "trainer.recalibrate=perhaps",
    ):
        with pytest.raises((HydraException, OmegaConfBaseException)):
            composed(override)


# -- every choice ---


def enums(kind, prefix=""):
    """Dotted key -> enum, of every setting that is one of several."""
    found = {}
    for name, hint in get_type_hints(kind).items():
        for part in (hint, *get_args(hint)):
            if isinstance(part, type) and issubclass(part, Enum):
                found[f"{prefix}{name}"] = part
            elif is_dataclass(part) and get_origin(hint) is not dict:
                found |= enums(part, f"{prefix}{name}.")
    return found


ENUMS = enums(Config)
LISTS = {"probe.kinds"}
"""Settings of which several can be chosen."""
BY_GROUP = {"norm.kind": "norm"}
"""Settings that are chosen by their group: what goes with them differs from kind to kind."""


NEEDED = {
    "cell.nonlinearity": ["cell=rnn"],
    "data.origin=files": ["data=files"],
    "data.origin=published": ["data=multi30k_de_en"],
    "model.tying": ["tokenizer.joint=true"],
    "norm.kind=none": ["norm=none"],
    "norm.statistics": ["norm=batch"],
}
"""What a setting, or a choice of it, needs to have an effect."""


@pytest.mark.parametrize("key", ENUMS)
def test_every_choice_is_accepted(composed, key):
    for member in ENUMS[key]:
        override = f"{key}=[{member.name}]" if key in LISTS else f"{key}={member.name}"
        needed = NEEDED.get(override, NEEDED.get(key, []))
        config = composed(*needed, override)
        group, _, name = key.rpartition(".")
        value = getattr(getattr(config, group) if group else config, name)
        assert value == [member] if key in LISTS else value is member


def test_settings_that_are_one_of_several_are_found():
    assert {
        "norm.kind",
        "norm.terms",
        "model.attention",
        "trainer.device",
        "backend",
        "data.origin",
    } <= ENUMS.keys()


@pytest.mark.parametrize(
    ("norm", "name"),
    [("layer", "cell"), ("layer", "terms"), ("rms", "group"), ("batch_shared", "statistics")],
)
def test_every_choice_of_a_norm_is_accepted(composed, norm, name):
    for member in ENUMS[f"norm.{name}"]:
        config = composed(f"norm={norm}", f"norm.{name}={member.name}")
        assert getattr(config.norm, name) is member


def test_a_setting_that_means_nothing_to_the_norm_is_refused(composed):
    with pytest.raises(ValueError, match=r"norm\.min_rows=8: means nothing to norm\.kind=layer"):
        composed("norm=layer", "norm.min_rows=8")


def test_every_kind_has_a_file():
    for group, kind in (("norm", NormKind), ("cell", CellKind), ("tokenizer", TokenizerKind)):
        assert (
            {choice.partition("_")[0] for choice in CHOICES[group]}
            == set(kind.__members__)
            <= set(CHOICES[group])
        )
    assert set(CHOICES["model"]) == {"tiny", "mini", "small", "base"}
    assert set(Backend.__members__) == {"auto", "reference", "fused"}
    for kind in ENUMS.values():
        assert all(member.name == member.value for member in kind)


def test_the_default_is_what_the_readme_says(composed):
    config = composed()
    assert (config.norm.kind, config.cell.kind, config.data.name) == (
        NormKind.layer,
        CellKind.lstm,
        "grammar_en_zh",
    )
    assert (config.seed, config.resume, config.overwrite, config.backend) == (
        1,
        None,
        False,
        Backend.auto,
    )
    assert composed(name="prepare_data") == config


# -- corpora ---


@pytest.mark.parametrize("name", CHOICES["data"])
def test_every_corpus_is_complete(composed, name):
    data = composed(f"data={name}").data
    assert data.name == name
    for language in (data.source_language, data.target_language):
        assert re.fullmatch("[a-z]{2}", language)
    assert data.source_language != data.target_language
    assert data.vocab_size >= LEAST_PIECES
    assert data.epochs > 0
    assert (data.batch_tokens is None) != (data.batch_sentences is None)
    splits = {"train": data.train, "valid": data.valid, "test": data.test, **data.more_tests}
    if name == "files":
        assert all(split.source is None for split in splits.values())
        return
    for split, found in splits.items():
        if (name, split) == ("iwslt15_en_vi", "train"):
            assert found.source is None
            continue
        assert found.source
        assert found.target
        assert found.source != found.target
        if data.origin is Origin.published:
            assert f".{data.source_language}" in found.source
            assert f".{data.target_language}" in found.target
            assert re.fullmatch("[0-9a-f]{64}", found.source_sha256)
            assert re.fullmatch("[0-9a-f]{64}", found.target_sha256)
            assert data.mirror_folder
    if data.origin is Origin.grammar:
        assert (ROOT / data.grammar).is_file()
        assert data.grammar_splits.keys() == splits.keys()
        assert all(
            0 < s.min_words <= s.max_words and s.count > 0 for s in data.grammar_splits.values()
        )


@pytest.mark.parametrize("name", CHOICES["data"])
def test_published_corpora_take_the_model_for_real_sentences(composed, name):
    found = composed(f"data={name}")
    size = "base" if found.data.origin is Origin.published else "small"
    assert found.model == composed(f"model={size}").model
    assert composed(f"data={name}", "model=tiny").model == composed("model=tiny").model


def test_no_checksum_stands_for_two_texts(composed):
    known = {}
    for name in CHOICES["data"]:
        data = composed(f"data={name}").data
        for split, found in {
            "train": data.train,
            "valid": data.valid,
            "test": data.test,
            **data.more_tests,
        }.items():
            for file, sha256 in (
                (found.source, found.source_sha256),
                (found.target, found.target_sha256),
            ):
                if sha256 is not None:
                    folder = found.mirror_folder or data.mirror_folder
                    assert known.setdefault(sha256, (folder, file)) == (
                        folder,
                        file,
                    ), f"{name} {split}"


def test_both_directions_of_a_corpus_are_the_same_texts(composed):
    for one, other in (
        ("multi30k_de_en", "multi30k_en_de"),
        ("multi30k_fr_en", "multi30k_en_fr"),
        ("tatoeba_en_zh", "tatoeba_zh_en"),
    ):
        a, b = composed(f"data={one}").data, composed(f"data={other}").data
        assert (a.source_language, a.target_language) == (b.target_language, b.source_language)
        for split in ("train", "valid", "test"):
            ours, theirs = getattr(a, split), getattr(b, split)
            assert (ours.source, ours.source_sha256) == (theirs.target, theirs.target_sha256)


# -- launchers of sweeps ---


def launcher_of(name, plugin):
    """A launcher's settings, which its plugin checks."""
    if importlib.util.find_spec(f"hydra_plugins.{plugin}") is None:
        pytest.skip(f"the package of hydra_plugins.{plugin} is not installed")
    composition.register()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", [f"hydra/launcher={name}"], return_hydra_config=True).hydra.launcher


def test_the_launcher_for_slurm_composes():
    found = launcher_of("slurm", "hydra_submitit_launcher")
    assert found._target_.endswith(".SlurmLauncher")
    assert (found.cpus_per_task, found.gpus_per_node, found.array_parallelism) == (4, 1, 16)
    assert found.max_num_timeout > 0  # else a job that runs out of time is given up


def test_the_launcher_for_ray_composes():
    found = launcher_of("ray_cores", "hydra_ray_launcher")
    assert found._target_.endswith(".RayLauncher")
    assert found.ray.remote.num_cpus == 1


def test_every_launcher_is_tried_here():
    assert sorted(
        path.stem for path in (ROOT / "configs" / "hydra" / "launcher").glob("*.yaml")
    ) == ["ray_cores", "slurm"]


# -- help ---


@pytest.mark.parametrize(
    ("program", "module"), [("train.py", train), ("scripts/prepare_data.py", prepare)]
)
def test_help_lists_every_group_and_choice(program, module, monkeypatch, capfd):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(sys, "argv", [program, "--help"])
    assert guarded(module.main) == 0
    shown = capfd.readouterr().out
    for group, choices in CHOICES.items():
        (listed,) = re.findall(rf"^{group}: (.*)$", shown, re.M)
        assert listed.split(", ") == sorted(choices)
    assert "_schema" not in shown
    if program == "train.py":
        for setting in ("norm:", "  lr: ${data.lr}", "  max_epochs: ", "  beam_size: 5", "seed: 1"):
            assert f"\n{setting}" in shown


@pytest.mark.parametrize(
    "path", sorted((ROOT / "seq2seq" / "config").glob("*.py")), ids=lambda path: path.name
)
def test_every_class_of_settings_says_what_it_is(path):
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            assert ast.get_docstring(node), node.name


# -- experiments ---

EXPERIMENTS = sorted(path.stem for path in (ROOT / "configs" / "experiment").glob("*.yaml"))
SIZES = ("gpu", "quick", "real")


def sweep_of(*overrides):
    """The lists of overrides of an experiment's jobs."""
    composition.register()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        params = compose("train", list(overrides), return_hydra_config=True).hydra.sweeper.params
    return [[f"{key}={value}" for value in values.split(",")] for key, values in params.items()]


def test_the_experiments_are_those_of_the_readme():
    assert EXPERIMENTS == [
        "batch_size",
        "convergence",
        "gradient_flow",
        "invariance",
        "length",
        "train_eval_gap",
    ]
    assert sorted(path.stem for path in (ROOT / "configs" / "size").glob("*.yaml")) == sorted(SIZES)
    for path in (ROOT / "configs" / "experiment" / "size").glob("*.yaml"):
        experiment, _, size = path.stem.rpartition("_")
        assert experiment in EXPERIMENTS
        assert size in SIZES


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_says_what_it_tests(experiment):
    text = (ROOT / "configs" / "experiment" / f"{experiment}.yaml").read_text(encoding="utf-8")
    (file,) = re.findall(r"^# What it tests: (\S+)$", text, re.M)
    assert (ROOT / file).is_file()
    assert f"\n#   python train.py -m experiment={experiment} size=" in text


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_job_of_an_experiment_composes(composed, experiment, size):
    """With each value of each thing swept over: every norm, rate and batch."""
    chosen = (f"experiment={experiment}", f"size={size}")
    swept = sweep_of(*chosen)
    assert {"norm", "seed"} <= {values[0].partition("=")[0] for values in swept}
    for i in range(max(map(len, swept))):
        config = composed(*chosen, *(values[i % len(values)] for values in swept))
        assert wrong(config, Config) == []
        assert (config.experiment, config.size) == (experiment, size)
    assert config.data.name == {"quick": "grammar_en_zh"}.get(size, "multi30k_de_en")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_no_job_of_an_experiment_is_left_out_of_its_comparison(composed, experiment, size):
    """What a setting that is swept over brings with it is not one that only odd runs differ in."""
    chosen = (f"experiment={experiment}", f"size={size}")
    swept = sweep_of(*chosen)
    runs = [synthetic.record() for _ in range(max(map(len, swept)))]
    for i, run in enumerate(runs):
        run.config, run.name = (
            composed(*chosen, *(values[i % len(values)] for values in swept)),
            str(i),
        )
    found = synthetic.group(runs)
    assert [(run.name, run.left_out) for run in found.left_out if "differs" in run.left_out] == []


def test_an_experiment_is_small_unless_told_otherwise_and_the_command_line_wins(composed):
    assert composed("experiment=length").size == "quick"
    config = composed("experiment=length", "model=base", "optimizer.lr=3", "probe.buckets=[7]")
    assert (config.model.hidden_size, config.optimizer.lr, config.probe.buckets) == (512, 3.0, [7])
    assert composed().experiment is composed().size is None


def test_the_rate_grows_with_the_root_of_the_batch_and_all_warm_up_over_as_many_sentences(composed):
    found = [
        composed("experiment=batch_size", f"data.batch_sentences={n}").optimizer
        for n in (4, 16, 64, 256)
    ]
    assert [o.lr for o in found] == [0.01, 0.02, 0.04, 0.08]
    assert [o.warmup_updates for o in found] == [175, 44, 11, 3]  # 700 sentences
