"""Hydra and exit codes: the one module, beside train.py and the scripts, that knows Hydra.

Exit codes: 0 done (also after SIGTERM, once saved), 1 a failure under way, 2 usage, configuration
and data, 130 Ctrl-C. Errors are one line, without a traceback unless HYDRA_FULL_ERROR=1.
"""

import argparse
import hashlib
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hydra_plugins import seq2seq as sweeper

from ..config import Config, Device, Precision
from ..config.settings import CHANGEABLE, CONFIGS, EXTENDABLE, NOT_SETTINGS
from ..errors import Stopped

if TYPE_CHECKING:
    from rich.console import Console

    from ..runs.folder import Run
    from ..translation.lines import Session

IN_THE_NAME = ("norm", "cell", "model", "data", "seed")
LONGEST_NAME = 200
"""File systems end at 255 bytes."""


def run_name(choices: Any, overrides: Sequence[str], seed: int) -> str:
    """`<norm>-<cell>-<model>-seed<N>[,key=value for every other override]`, fit for a folder's
    name.
    """
    others = {
        key_of(o): canonical(o) for o in overrides if key_of(o) not in (*IN_THE_NAME, *NOT_SETTINGS)
    }
    name = ",".join(
        [
            f"{choices['norm']}-{choices['cell']}-{choices['model']}-seed{seed}",
            *sorted(others.values()),
        ]
    )
    name = re.sub(r"[^\w.,=+~@-]", "_", name)
    if len(name.encode()) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return name.encode()[: LONGEST_NAME - 13].decode(errors="ignore") + "-" + digest


def key_of(override: str) -> str:
    """What an override sets."""
    return override.partition("=")[0].lstrip("+~")


def canonical(override: str) -> str:
    """An override as a sweep writes it: optimizer.lr=1e-3 is optimizer.lr=0.001 there."""
    parsed = OverridesParser.create().parse_override(override)
    return f"{parsed.get_key_element()}={parsed.get_value_element_as_str()}".replace("\\", "")


def run_folder(name: str, resume: str | None) -> str:
    """Where Hydra is to make a single run's folder: outputs/<corpus>/<name>. A resumed run has its
    own.
    """
    return f"outputs/{name}" if resume is None else "."


def group_choices() -> str:
    """What each group of configs/ offers, for --help: Hydra's own list has the schemas and shared
    parts too.
    """
    groups = (
        group for group in sorted(CONFIGS.iterdir()) if group.is_dir() and group.name != "hydra"
    )
    return "\n".join(
        f"{group.name}: {', '.join(sorted(file.stem for file in group.glob('*.yaml')))}"
        for group in groups
    )


def arguments(given: Sequence[str]) -> list[str]:
    """The command line with RUN of resume=RUN quoted for Hydra: a run's name has commas and equals
    signs.

    Not that of a sweep: there a comma stands between runs.
    """
    if "-m" in given or "--multirun" in given:
        return list(given)
    return [_quoted(argument) if argument.startswith("resume=") else argument for argument in given]


def _quoted(override: str) -> str:
    key, _, value = override.partition("=")
    if value[:1] in ("'", '"') or re.fullmatch(r"[\w./+-]*", value, re.ASCII):
        return override
    return f"{key}='" + value.replace("'", r"\'") + "'"


def by_root(rate: float, size: int, base: int) -> float:
    """The rate for batches of `size` where `rate` is the one for `base`: by the root (Malladi et
    al. 2022, of Adam).
    """
    return float(rate * math.sqrt(size / base))


def in_batches(sentences: int, size: int) -> int:
    """In how many batches of `size` so many sentences are seen."""
    return max(1, round(sentences / size))


def register() -> None:
    """Make the schemas and resolvers that configs/ uses known to Hydra."""
    sweeper.register()
    store = ConfigStore.instance()
    store.store(name="config_schema", node=Config)
    for f in fields(Config):
        if is_dataclass(f.type):
            store.store(group=f.name, name=f"{f.name}_schema", node=f.type)
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)
    OmegaConf.register_new_resolver("by_root", by_root, replace=True)
    OmegaConf.register_new_resolver("in_batches", in_batches, replace=True)
    OmegaConf.register_new_resolver("group_choices", group_choices, replace=True)


def composed(cfg: DictConfig) -> Config:
    """Hydra's composition as the plain dataclass."""
    config = OmegaConf.to_object(cfg)
    assert isinstance(config, Config)
    return config


def current_run(cfg: DictConfig) -> tuple[Config, "Run"]:
    """The configuration and the folder of this job. With resume=RUN both are RUN's own."""
    from ..runs.folder import Run

    config = composed(cfg)
    if (
        HydraConfig.get().mode is RunMode.MULTIRUN
        and not HydraConfig.get().launcher._target_.endswith("BasicLauncher")
    ):
        config.trainer.progress = False  # the bars of jobs side by side would overwrite each other
    overrides = HydraConfig.get().overrides
    asked = {key_of(o): o for o in overrides.task if key_of(o) not in NOT_SETTINGS}
    if config.resume is None:
        return config, Run(
            os.path.relpath(HydraConfig.get().runtime.output_dir), list(asked.values())
        )
    run = Run.open(config.resume)
    if (before := run.overrides()) is not None:
        run.asked = list(({key_of(o): o for o in before} | asked).values())
    resumed = OmegaConf.structured(replace(run.config(), resume=config.resume, overwrite=False))
    accepted = [key for key in (*CHANGEABLE, *EXTENDABLE) if key not in NOT_SETTINGS]
    for override in (
        *overrides.task,
        *(o for o in overrides.hydra if key_of(o) == "hydra.run.dir"),
    ):
        key = key_of(override)
        if key not in (*accepted, "resume") or override.startswith("~"):
            raise ValueError(
                f"{override}: resume={config.resume} goes on with that run's own configuration;"
                f" expected only {', '.join(accepted)}"
            )
        OmegaConf.update(resumed, key, OmegaConf.select(cfg, key))
    return composed(resumed), run


class JobFailed(BaseException):
    """Carries a single run's error past Hydra, which would print a line of its own about an
    Exception.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def job() -> Iterator[None]:
    """Let a failed job of a sweep say so at once, and the others go on: Hydra raises its error
    after the last one.
    """
    try:
        yield
    except (ValueError, RuntimeError, OSError) as error:
        if HydraConfig.get().mode is not RunMode.MULTIRUN:
            raise JobFailed(error) from error
        print(f"failed: {' '.join(HydraConfig.get().overrides.task)}: {error}", file=sys.stderr)
        raise


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """The options that translate.py and evaluate.py share; without one the run's own configuration
    holds.
    """
    parser.add_argument("--beam", type=int, metavar="N", help="hypotheses a sentence; 1 is greedy")
    parser.add_argument("--batch-size", type=int, metavar="N", help="sentences decoded together")
    parser.add_argument(
        "--length-penalty",
        type=float,
        metavar="X",
        help="exponent of the length that divides a score",
    )
    parser.add_argument(
        "--replace-unk",
        action="store_true",
        help="put the attended source word in the place of <unk>",
    )
    parser.add_argument("--precision", choices=[p.value for p in Precision], help="of the products")
    parser.add_argument(
        "--device", choices=[d.value for d in Device], default="auto", help="default: auto"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads")


def open_translator(folder: str, options: argparse.Namespace) -> "Session":
    """A run's best model and its search, with what the options change."""
    from ..device import choose_device, set_threads
    from ..runs.folder import Run
    from ..translation.lines import Session

    set_threads(options.threads)
    run = Run.open(folder)
    config = run.config()
    named = {
        "beam_size": options.beam,
        "batch_size": options.batch_size,
        "length_penalty": options.length_penalty,
        "replace_unk": options.replace_unk or None,
    }
    decode = replace(
        config.decode, **{key: value for key, value in named.items() if value is not None}
    )
    precision = (
        config.trainer.precision if options.precision is None else Precision[options.precision]
    )
    return Session(
        run.translator(choose_device(Device[options.device])), run.tokenizers(), decode, precision
    )


def console() -> "Console":
    """Where tables are printed: as wide as the terminal, wide where it is a file or a pipe."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 200)


def say(error: BaseException, code: int) -> int:
    """Print an error for a person to read."""
    if os.environ.get("HYDRA_FULL_ERROR") == "1" and not isinstance(error, Stopped):
        raise error
    message = str(error)
    if isinstance(error, HydraException) and isinstance(error.__cause__, OmegaConfBaseException):
        message += f": {error.__cause__}"  # Hydra names the override, this what was expected
    if isinstance(error, OSError) and error.filename is not None:
        message = f"{error.filename}: {error.strerror}"
    message = " ".join(message.split())
    print(f"{Path(sys.argv[0]).name}: {message or type(error).__name__}", file=sys.stderr)
    return code


def guarded(main: Callable[[], Any]) -> int:
    """Run a command and turn what it raises into a line and an exit code."""
    asked_for_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of exiting by itself
    try:
        try:
            main()
        except JobFailed as failed:
            raise failed.error from failed.error.__cause__
        finally:
            os.environ["HYDRA_FULL_ERROR"] = "1" if asked_for_traceback else "0"
        return 0
    except Stopped as error:
        return say(error, error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has gone, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, FileNotFoundError, HydraException, OmegaConfBaseException) as error:
        return say(error, 2)
    except (RuntimeError, OSError) as error:
        return say(error, 1)
