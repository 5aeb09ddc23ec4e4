"""Hydra: from the command line to the settings of a run, and to the folder that it writes.

With `explanations.py`, `fine_tuning.py`, `names.py`, `overrides.py`, `sources.py` and `typed.py`
this is all that knows Hydra. The modules of commands see its DictConfig alone.
"""

import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import hydra
from hydra import compose, initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from ..config import Config, TokenizerConfig, saved_settings
from ..config.settings import CHANGEABLE, CONFIGS, EXTENDABLE, NOT_SETTINGS, plain
from ..files import place
from ..shown import brief, failed_job
from .exit_codes import wants_traceback
from .explanations import REFUSED, explained
from .fine_tuning import check_origins, with_architecture
from .names import corpus_folder, key_of, run_folder, run_name
from .overrides import check, choices, is_swept
from .sources import register_source
from .streams import drop_unread
from .typed import as_typed, without_references
from .utf8 import use_utf8

if TYPE_CHECKING:
    from ..runs.folder import Run

VERSION_BASE = "1.3"
"""The version of Hydra whose defaults hold."""


@cache
def register() -> None:
    """Register the schemas and resolvers that configs/ uses, once.

    The schema of all settings has those of every group. Merged again by a group's own schema, they
    would take a sixth of the time of a composition: what files of a group name as it is empty.
    """
    os.environ.setdefault("OC_CAUSE", "0")  # else OmegaConf's errors differ under a debugger
    Plugins.instance()  # makes Hydra's classes again, from which those of our sweeper are derived
    from hydra_plugins import seq2seq as sweeper

    sweeper.register()
    register_source()
    store = ConfigStore.instance()
    store.store(name="config_schema", node=Config)
    for f in fields(Config):
        if is_dataclass(f.type):
            store.store(group=f.name, name=f"{f.name}_schema", node={})
    for resolver in (corpus_folder, run_name, run_folder, by_root, in_batches):
        OmegaConf.register_new_resolver(resolver.__name__, resolver, replace=True)


def by_root(rate: float, size: int | None, base: int) -> float:
    """Return the rate for batches of `size`, given the rate for batches of `base`.

    It grows with the square root of the batch (Malladi et al. 2022, for Adam).
    """
    return float(rate * math.sqrt(_sentences(size) / base))


def in_batches(sentences: int, size: int | None) -> int:
    """Return the number of batches of `size` that hold so many sentences."""
    return max(1, round(sentences / _sentences(size)))


def _sentences(size: int | None) -> int:
    """Return the sentences of a batch; ValueError where batches are of so many tokens."""
    if size is None:
        raise ValueError("data.batch_sentences=null: expected a number of sentences")
    return size


# -- a command ---


def run(task: Callable[[DictConfig], Any], config_name: str, *, goes_on: bool = False) -> None:
    """Run a task with the settings that the command line asks for, once or for each job of a sweep.

    goes_on: Also when nobody reads the output any more.
    ValueError for settings that can't be composed; an error of the task keeps its type.
    """
    register()
    sweep = get_args_parser().parse_args().multirun
    sys.argv[1:] = as_typed(sys.argv[1:], sweep)
    options = get_args_parser().parse_args()
    own = [Path(options.config_dir)] if options.config_dir else []
    for folder in own:
        if not folder.is_dir():
            raise ValueError(f"--config-dir {folder}: no such folder{place(folder)}")
    if sweep and options.cfg:
        raise ValueError("-m and --cfg: expected one of them; --cfg shows a single run's settings")
    traceback = wants_traceback()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises; otherwise it prints and exits
    try:
        check(options.overrides, [CONFIGS, *own])
        check_origins(options.overrides)
        if options.help:
            overrides = options.overrides
            if sweep:  # which shows no run's values of what it sweeps
                overrides = [o for o in overrides if not is_swept(o)]
            show_help(config_name, overrides, own)
        elif options.cfg == "job" and not options.package:
            show_settings(config_name, options.overrides, own, resolve=options.resolve)
        else:
            if goes_on:
                drop_unread()
            with ExitStack() as during:
                if not own and not any(key_of(o) == "hydra.mode" for o in options.overrides):
                    during.enter_context(mode_of_options())
                hydra.main(str(CONFIGS), config_name, VERSION_BASE)(task)()
    except JobFailed as failed:
        raise failed.error from failed.error.__cause__
    except REFUSED as error:
        raise ValueError(explained(error)) from error
    finally:
        os.environ["HYDRA_FULL_ERROR"] = "1" if traceback else "0"


@contextmanager
def mode_of_options() -> Iterator[None]:
    """Let --multirun alone tell whether Hydra sweeps.

    Hydra would compose all settings once more to read hydra.mode, which no file of configs/ sets.
    """
    before, Hydra.get_mode = Hydra.get_mode, lambda *_, **__: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        Hydra.get_mode = before  # type: ignore[method-assign]


def show_help(config_name: str, overrides: Sequence[str], own: Sequence[Path] = ()) -> None:
    """Print what the command does, the choices of each group, and every setting with its value.

    own: Folders of --config-dir.
    Hydra's own help takes a second longer: it also lists the groups that we don't show.
    """
    cfg, template = _as_in_command(config_name, overrides, own)
    groups = sorted(folder.name for folder in CONFIGS.iterdir() if folder.is_dir())
    listed = [
        f"{group}: {', '.join(choices(group, [CONFIGS, *own]))}"
        for group in groups
        if group != "hydra"
    ]
    print(
        Template(template)
        .substitute(GROUPS="\n".join(listed), CONFIG=OmegaConf.to_yaml(cfg))
        .rstrip()
    )


def show_settings(
    config_name: str, overrides: Sequence[str], own: Sequence[Path], *, resolve: bool
) -> None:
    """Print the settings that the command would use (--cfg job), once they have been checked.

    Hydra would also print those that the command then refuses. With init_from=RUN the architecture
    is RUN's. ValueError for settings that the command refuses, and for resume=RUN.
    """
    cfg, _ = _as_in_command(config_name, overrides, own)
    if (run := cfg.get("resume")) is not None:
        raise ValueError(
            f"--cfg job: expected the settings of a new run; those of resume={run} are in"
            f" {os.path.join(run, 'config.yaml')}"
        )
    settings(cfg)
    print(OmegaConf.to_yaml(cfg, resolve=resolve), end="")


def _as_in_command(
    config_name: str, overrides: Sequence[str], own: Sequence[Path]
) -> tuple[DictConfig, str]:
    """Return the settings that a command composes, and the template of its help."""
    path = create_config_search_path(str(CONFIGS))
    for folder in own:  # as Hydra adds it
        path.prepend("command-line", f"file://{folder.resolve()}", SearchPathQuery("schema"))
    with initialize_config_dir(str(CONFIGS), version_base=VERSION_BASE):
        GlobalHydra.instance().clear()  # the former one is back in the end
        Hydra.create_main_hydra2(config_name, path)
        cfg = compose(config_name, list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    template = cfg.hydra.help.template  # with its references followed
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, template


# -- one run, or one job of a sweep ---


def composed(cfg: DictConfig) -> Config:
    """Return Hydra's composition as the plain dataclass, which checks itself."""
    if cfg.tokenizer.model is not None:
        for key in ("vocab_size", "joint"):  # suggestions of the corpus, which the model replaces
            if OmegaConf.is_interpolation(cfg.tokenizer, key):
                cfg.tokenizer[key] = getattr(TokenizerConfig(), key)
    try:
        OmegaConf.to_object(cfg.data)  # first: other groups take defaults from it
        config = OmegaConf.to_object(cfg)
    except REFUSED as error:
        raise ValueError(explained(error)) from error
    assert isinstance(config, Config)
    return config


def compose_here(overrides: Sequence[str]) -> Config:
    """Return the settings of train.py with these overrides, outside of a command of Hydra's.

    ValueError for settings that can't be composed.
    """
    register()
    try:
        check(list(overrides), [CONFIGS])
        with initialize_config_dir(str(CONFIGS), version_base=VERSION_BASE):
            return composed(compose("train", list(overrides)))
    except REFUSED as error:
        raise ValueError(explained(error)) from error


def settings(cfg: DictConfig) -> Config:
    """Return the settings of this job; with init_from=RUN the architecture is RUN's."""
    from ..runs.folder import Run

    if cfg.init_from is not None:
        with_architecture(cfg, Run.open(cfg.init_from).config(), asked())
    return composed(cfg)


def current_run(cfg: DictConfig) -> tuple[Config, "Run"]:
    """Return the settings and the folder of this job; with resume=RUN both are RUN's own."""
    if cfg.resume is not None:
        return _resumed_run(cfg)
    from ..runs.folder import Run

    run = Run(os.path.relpath(HydraConfig.get().runtime.output_dir), list(asked().values()))
    try:
        config = settings(cfg)
    except ValueError:
        if os.environ.get("RANK", "0") != "0":
            raise
        with run.beginning():  # leaves failure.txt in the folder
            raise
    return _without_bars(config), run


def asked() -> dict[str, str]:
    """Return the overrides of this job by their keys, without those of this one start."""
    return {key_of(o): o for o in HydraConfig.get().overrides.task if key_of(o) not in NOT_SETTINGS}


def _resumed_run(cfg: DictConfig) -> tuple[Config, "Run"]:
    """Return a run's own settings, changed only by what changes nothing of the training so far."""
    from ..runs.folder import Run

    overrides = HydraConfig.get().overrides
    run = Run.open(cfg.resume)
    if (before := run.overrides()) is not None:
        run.asked = list(({key_of(o): o for o in before} | asked()).values())
    resumed = _as_hydra(replace(run.config(), resume=cfg.resume, overwrite=False))
    accepted = [key for key in (*CHANGEABLE, *EXTENDABLE) if key not in NOT_SETTINGS]
    places = (o for o in overrides.hydra if key_of(o) == "hydra.run.dir")
    for override in (*overrides.task, *places):
        key = key_of(override)
        if key not in (*accepted, "resume"):
            names = ", ".join(name.rpartition(".")[2] for name in accepted)
            raise ValueError(
                f"{brief(override)}: resume={cfg.resume} keeps that run's settings;"
                + (
                    f" init_from={cfg.resume} trains its weights on other text"
                    if key.split(".")[0] == "data"
                    else f" expected only {names}"
                )
            )
        OmegaConf.update(resumed, key, OmegaConf.select(cfg, key))
    with saved_settings():
        return _without_bars(composed(resumed)), run


def _as_hydra(config: Config) -> DictConfig:
    """Return settings as Hydra has them, where ${ in a text is that and no reference."""
    made = OmegaConf.merge(OmegaConf.structured(Config), without_references(plain(config)))
    assert isinstance(made, DictConfig)
    return made


def _without_bars(config: Config) -> Config:
    """Turn off the progress bar of a job that runs next to others, which would overwrite it."""
    job = HydraConfig.get()
    if job.mode is RunMode.MULTIRUN and not job.launcher._target_.endswith("BasicLauncher"):
        config.trainer.progress = False
    return config


class JobFailed(BaseException):
    """The error of a single run, on its way past Hydra, which would print a line of its own."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def job() -> Iterator[None]:
    """Report a failed job of a sweep at once and let the others continue.

    Hydra raises its error after the last job.
    """
    use_utf8()  # here too: a launcher may have started a process for this job
    try:
        yield
    except (ValueError, RuntimeError, OSError) as error:
        if HydraConfig.get().mode is not RunMode.MULTIRUN:
            raise JobFailed(error) from error
        overrides = " ".join(HydraConfig.get().overrides.task)
        print(failed_job(overrides, str(error)), file=sys.stderr)
        raise
