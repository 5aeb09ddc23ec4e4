"""Hydra and exit codes: the one module, beside train.py and the scripts, that knows Hydra.

Exit codes: 0 done (also after SIGTERM, once saved), 1 a failure under way, 2 usage, configuration and data,
130 Ctrl-C. Errors are one line, without a traceback unless HYDRA_FULL_ERROR=1.
"""

import argparse
import hashlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .config import Config, Device, Precision
from .errors import Stopped
from .run import CHANGEABLE, EXTENDABLE, Run

if TYPE_CHECKING:
    from .translation import Session

IN_THE_NAME = ("norm", "cell", "model", "data", "seed")
NOT_SETTINGS = ("resume", "overwrite")
LONGEST_NAME = 200
"""File systems end at 255 bytes."""


def run_name(choices: Any, overrides: Sequence[str], seed: int) -> str:
    """`<norm>-<cell>-<model>-seed<N>[,key=value for every other override]`, fit for a folder's name."""
    others = sorted(o for o in overrides if o.partition("=")[0].lstrip("+~") not in (*IN_THE_NAME, *NOT_SETTINGS))
    name = ",".join([f"{choices['norm']}-{choices['cell']}-{choices['model']}-seed{seed}", *others])
    name = re.sub(r"[^\w.,=+~@-]", "_", name)
    if len(name.encode()) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return name.encode()[:LONGEST_NAME - 13].decode(errors="ignore") + "-" + digest


def run_folder(name: str, resume: str | None) -> str:
    """Where a single run goes: into the folder that is resumed, or outputs/<corpus>/<name>."""
    return resume or f"outputs/{name}"


def register() -> None:
    """Make the schemas and resolvers that configs/ uses known to Hydra."""
    store = ConfigStore.instance()
    store.store(name="config_schema", node=Config)
    for f in fields(Config):
        if f.name in ("norm", "cell", "model", "tokenizer", "data", "optimizer", "trainer", "decode"):
            store.store(group=f.name, name=f"{f.name}_schema", node=f.type)
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)


def composed(cfg: DictConfig) -> Config:
    """Hydra's composition as the plain dataclass."""
    config = OmegaConf.to_object(cfg)
    assert isinstance(config, Config)
    return config


def current_run(cfg: DictConfig) -> tuple[Config, Run]:
    """The configuration and the folder of this job. With resume=RUN both are RUN's own."""
    config = composed(cfg)
    if config.resume is None:
        return config, Run(os.path.relpath(HydraConfig.get().runtime.output_dir))
    run = Run.open(config.resume)
    resumed = OmegaConf.structured(run.config())
    for override in HydraConfig.get().overrides.task:
        key = override.partition("=")[0].lstrip("+")
        if key not in CHANGEABLE + EXTENDABLE:
            raise ValueError(f"{override}: resume={config.resume} goes on with that run's own configuration; expected "
                             f"only {', '.join(k for k in CHANGEABLE + EXTENDABLE if k not in NOT_SETTINGS)}")
        OmegaConf.update(resumed, key, OmegaConf.select(cfg, key))
    return composed(resumed), run


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """The options that translate.py and evaluate.py share; without one the run's own configuration holds."""
    parser.add_argument("--beam", type=int, metavar="N", help="hypotheses a sentence; 1 is greedy")
    parser.add_argument("--batch-size", type=int, metavar="N", help="sentences decoded together")
    parser.add_argument("--length-penalty", type=float, metavar="X", help="exponent of the length that divides a score")
    parser.add_argument("--replace-unk", action="store_true", help="put the attended source word in the place of <unk>")
    parser.add_argument("--precision", choices=[p.value for p in Precision], help="of the products")
    parser.add_argument("--device", choices=[d.value for d in Device], default="auto", help="default: auto")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads")


def open_translator(folder: str, options: argparse.Namespace) -> "Session":
    """A run's best model and its search, with what the options change."""
    from .device import choose_device, set_threads
    from .translation import Session

    set_threads(options.threads)
    run = Run.open(folder)
    config = run.config()
    named = {"beam_size": options.beam, "batch_size": options.batch_size, "length_penalty": options.length_penalty,
             "replace_unk": options.replace_unk or None}
    decode = replace(config.decode, **{key: value for key, value in named.items() if value is not None})
    precision = config.trainer.precision if options.precision is None else Precision[options.precision]
    return Session(run.translator(choose_device(Device[options.device])), run.tokenizers(), decode, precision)


def say(error: BaseException, code: int) -> int:
    """Print an error for a person to read."""
    if os.environ.get("HYDRA_FULL_ERROR") == "1" and not isinstance(error, Stopped):
        raise error
    of_hydra = isinstance(error, (HydraException, OmegaConfBaseException))
    message = " ".join(str(error).split()) if of_hydra else str(error)
    if isinstance(error, OSError) and error.filename is not None:
        message = f"{error.filename}: {error.strerror}"
    print(f"{Path(sys.argv[0]).name}: {message or type(error).__name__}", file=sys.stderr)
    return code


def guarded(main: Callable[[], Any]) -> int:
    """Run a command and turn what it raises into a line and an exit code."""
    asked_for_traceback = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of exiting by itself
    try:
        main()
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
        os.environ["HYDRA_FULL_ERROR"] = "1" if asked_for_traceback else "0"
        return say(error, 2)
    except (RuntimeError, OSError) as error:
        os.environ["HYDRA_FULL_ERROR"] = "1" if asked_for_traceback else "0"
        return say(error, 1)
