"""configs/experiment, configs/size and the launchers of sweeps."""

import importlib.util
import re
from functools import cache
from itertools import product
from typing import Any

import pytest
import synthetic
from composing import composed_settings
from config_types import wrong
from conftest import ROOT
from fixture_types import Composed
from hydra import compose, initialize_config_dir

from seq2seq.app import composition
from seq2seq.config import Config
from seq2seq.report.experiments import batch_norm, robustness
from seq2seq.runs.asked import without_effect_remarks

pytest_plugins = ["config_fixtures"]


# -- launchers of sweeps ---


def launcher_of(name: str, plugin: str) -> Any:
    """Return a launcher's settings, which its plugin checks."""
    if importlib.util.find_spec(f"hydra_plugins.{plugin}") is None:
        pytest.skip(f"the package of hydra_plugins.{plugin} is not installed")
    composition.register()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", [f"hydra/launcher={name}"], return_hydra_config=True).hydra.launcher


def test_the_launcher_for_slurm_composes() -> None:
    found = launcher_of("slurm", "hydra_submitit_launcher")
    assert found._target_.endswith(".SlurmLauncher")
    assert (found.cpus_per_task, found.gpus_per_node, found.array_parallelism) == (4, 1, 16)
    assert found.max_num_timeout > 0  # otherwise a job that runs out of time would fail


def test_the_launcher_for_ray_composes() -> None:
    found = launcher_of("ray_cores", "hydra_ray_launcher")
    assert found._target_.endswith(".RayLauncher")
    assert found.ray.remote.num_cpus == 1


def test_every_launcher_has_a_test() -> None:
    assert sorted(
        path.stem for path in (ROOT / "configs" / "hydra" / "launcher").glob("*.yaml")
    ) == ["ray_cores", "slurm"]


# -- experiments ---

FILES = sorted(path.stem for path in (ROOT / "configs" / "experiment").glob("*.yaml"))
RECIPES = [name for name in FILES if name.startswith("best_")]
"""Settings that translate a corpus well."""
EXPERIMENTS = [name for name in FILES if name not in RECIPES]


SIZES = ("gpu", "quick", "real")


@cache
def sweep_of(*overrides: str) -> list[list[str]]:
    """Return the values of each setting that an experiment sweeps over, as overrides."""
    return [
        [f"{key}={value}" for value in str(values).split(",")]
        for key, values in sweeper_of(*overrides).params.items()
    ]


def sweeper_of(*overrides: str) -> Any:
    """Return the sweeper of an experiment."""
    return composed_settings(*overrides, hydra=True).hydra.sweeper


def jobs_of(*chosen: str) -> list[list[str]]:
    """Return the overrides of every job of an experiment's cases."""
    return [
        list(overrides)
        for case in sweeper_of(*chosen).cases or [""]
        for overrides in product(
            *(
                [f"{k}={v}" for v in values.split(",")]
                for k, _, values in (override.partition("=") for override in case.split())
            )
        )
    ]


def test_the_experiments_are_those_of_the_readme() -> None:
    assert EXPERIMENTS == [
        "batch_norm",
        "batch_size",
        "convergence",
        "gradient_flow",
        "invariance",
        "length",
        "robustness",
        "train_eval_gap",
    ]
    assert sorted(path.stem for path in (ROOT / "configs" / "size").glob("*.yaml")) == sorted(SIZES)
    for path in (ROOT / "configs" / "experiment" / "size").glob("*.yaml"):
        experiment, _, size = path.stem.rpartition("_")
        assert experiment in EXPERIMENTS
        assert size in SIZES


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiments_file_names_its_module_and_command(experiment: str) -> None:
    text = (ROOT / "configs" / "experiment" / f"{experiment}.yaml").read_text(encoding="utf-8")
    (file,) = re.findall(r"^# What it tests: (\S+)$", text, re.M)
    assert (ROOT / file).is_file()
    assert f"\n#   python train.py -m experiment={experiment} size=" in text


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_a_run_of_its_corpus_with_any_norm(composed: Composed, recipe: str) -> None:
    text = (ROOT / "configs" / "experiment" / f"{recipe}.yaml").read_text(encoding="utf-8")
    assert f"\n#   python train.py experiment={recipe} seed=1\n" in text
    corpus = recipe.removeprefix("best_")
    for norm in ("none", "batch", "layer", "rms"):
        config = composed(f"experiment={recipe}", f"norm={norm}")
        assert wrong(config, Config) == []
        assert config.data.name.startswith(corpus)
        assert (config.norm.kind.value, config.experiment, config.size) == (norm, None, None)
    other = composed(f"experiment={recipe}", "data=multi30k_en_de", "optimizer.lr=0.5")
    assert (other.data.name, other.optimizer.lr) == ("multi30k_en_de", 0.5)


@pytest.mark.parametrize(
    "size", [pytest.param(s, marks=[pytest.mark.slow] * (s == "gpu")) for s in SIZES]
)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_job_of_an_experiment_composes(
    composed: Composed, experiment: str, size: str
) -> None:
    """Each value of each swept setting occurs in a job."""
    chosen = (f"experiment={experiment}", f"size={size}")
    swept = sweep_of(*chosen)
    in_cases = [override for job in jobs_of(*chosen) for override in job]
    every = [*in_cases, *(values[0] for values in swept)]
    assert {"norm", "seed"} <= {override.partition("=")[0] for override in every}
    for i in range(max(map(len, swept))):
        asked = [values[i % len(values)] for values in swept]
        config = composed(*chosen, *asked)
        assert wrong(config, Config) == []
        assert without_effect_remarks(config, asked) == []
        assert (config.experiment, config.size) == (experiment, size)
    assert config.data.name == {"quick": "grammar_en_zh"}.get(size, "multi30k_de_en")


@pytest.mark.parametrize(
    ("experiment", "size", "jobs", "cases"),
    [
        ("robustness", "quick", 5, 5),
        ("robustness", "real", 5, 5),
        ("robustness", "gpu", 7, 7),
        ("batch_norm", "quick", 12, 9),
        ("batch_norm", "real", 12, 9),
        ("batch_norm", "gpu", 15, 12),
    ],
)
def test_every_case_composes_and_is_compared(
    composed: Composed, experiment: str, size: str, jobs: int, cases: int
) -> None:
    """Batch norm's are cases; a model without a norm is beside some of them."""
    chosen = (f"experiment={experiment}", f"size={size}")
    every = jobs_of(*chosen)
    assert len(every) == jobs
    runs = [synthetic.record() for _ in every]
    for i, (run, overrides) in enumerate(zip(runs, every, strict=True)):
        run.config, run.name = composed(*chosen, *overrides), str(i)
        assert wrong(run.config, Config) == []
        assert without_effect_remarks(run.config, overrides) == []
    found = synthetic.group(runs)
    cases_of = {"robustness": robustness.cases, "batch_norm": batch_norm.cases}[experiment]
    assert (found.left_out, len(cases_of(found))) == ([], cases)


def test_the_tokens_of_an_update_do_not_depend_on_its_batches(composed: Composed) -> None:
    chosen = ("experiment=batch_norm", "size=quick", "norm=batch")
    whole, parts = (composed(*chosen, f"optimizer.accumulate={n}") for n in (1, 4))
    assert (whole.data.batch_tokens, parts.data.batch_tokens) == (512, 128)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_no_job_of_an_experiment_is_left_out_of_its_comparison(
    composed: Composed, experiment: str, size: str
) -> None:
    """Settings that follow a swept setting are no reason to leave a run out."""
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


def test_experiments_are_small_by_default_and_overrides_take_precedence(
    composed: Composed,
) -> None:
    assert composed("experiment=length").size == "quick"
    config = composed("experiment=length", "model=base", "optimizer.lr=3", "probe.buckets=[7]")
    assert (config.model.hidden_size, config.optimizer.lr, config.probe.buckets) == (512, 3.0, [7])
    assert composed().experiment is composed().size is None


def test_the_rate_grows_with_the_root_of_the_batch_and_warm_up_has_a_fixed_number_of_sentences(
    composed: Composed,
) -> None:
    found = [
        composed("experiment=batch_size", f"data.batch_sentences={n}").optimizer
        for n in (4, 16, 64, 256)
    ]
    assert [o.lr for o in found] == [0.01, 0.02, 0.04, 0.08]
    assert [o.warmup_updates for o in found] == [175, 44, 11, 3]  # 700 sentences
