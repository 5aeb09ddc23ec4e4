"""Whether what a command has done with a damaged copy is right."""

import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzz.commands import Outcome, commands, shortened, without_flushing
from fuzz.mutants import Mutant, damage
from fuzz.subject import CORPUS, Subject
from messages import assert_explained

from seq2seq.runs.configuration import read_yaml

EVERY = 50
"""Every so many mutants nothing is left out of the commands."""
UNREAD = 10
"""Every so many mutants go through the commands too that do not read the file."""
TRANSLATES = ("run/config.yaml", "run/tokenizer*", "best.safetensors")
READS = {
    "translate": TRANSLATES,
    "evaluate": (*TRANSLATES, "run/shortlist.npz", "corpus/test.*"),
    "compare": (
        *("run/config.yaml", "run/overrides.yaml", "run/*.jsonl", "run/results.json"),
        *("run/failure.txt", "translations/*"),
    ),
    "export": TRANSLATES,
    "resume": (
        *("run/config.yaml", "run/overrides.yaml", "run/*.jsonl", "run/results.json"),
        *("*.safetensors", "prepared/toy/*/*", "corpus/train.*", "corpus/valid.*", "corpus/test.*"),
    ),
}
"""What each command reads, as patterns of the ends of paths."""
OPEN = (
    "config.yaml",
    "overrides.yaml",
    "*.jsonl",
    "results.json",
    "*.txt",
    "*.en",
    "*.zh",
    "examples.json",
    "origin.json",
    "failure.txt",
)
"""Files without a checksum: a change that is a right value of another run is not found."""
OTHER_VALUES = (
    "tensors_changed",
    "state_changed",
    "header_changed",
    "model_changed",
    "values_changed",
    "arrays_changed",
    "npz_file",
    "json_file",
    "another",
    "swapped",
)
"""Damage that may leave a file whole, with another content."""


SETTING = re.compile(r"[\w.]+=|--split ")
"""A setting, or a split that a configuration may have."""


@dataclass
class Fault:
    """What a command has done wrong."""

    mutant: Mutant
    command: str
    what: str

    def __str__(self) -> str:
        return f"{self.mutant}: {self.command}: {self.what}"


@dataclass
class Judge:
    """Copies, damages and runs, and compares with what the whole run gives."""

    subject: Subject
    work: Path
    """A folder for the copies."""

    def __post_init__(self) -> None:
        with self._copy() as folder, contextlib.chdir(folder), without_flushing(), shortened():
            self.right = {name: command() for name, command in commands(False).items()}
        for name, done in self.right.items():
            assert (done.code, done.failure) == (0, ""), (name, done)
            assert done.result, (name, done)
        self.siblings: dict[str, list[str]] = {}
        for file in self.subject.files():
            self.siblings.setdefault(str(file.parent), []).append(file.name)
        self.config = read_yaml((self.subject.folder / "run/config.yaml").read_text())

    @contextlib.contextmanager
    def _copy(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self.work) as folder:
            yield self.subject.copy(Path(folder) / "copy")

    def __call__(
        self, seed: int, without: Sequence[str] = (), whole: bool | None = None
    ) -> tuple[Mutant, list[Fault], dict[str, Outcome]]:
        """Try one mutant; return it, the faults, and what each command did.

        `without` are commands that are left out. `whole`: leave nothing out of the others; by
        default one in EVERY.
        """
        done = {}
        whole = seed % EVERY == EVERY - 1 if whole is None else whole
        with self._copy() as folder:
            mutant = damage(folder, self.subject.files(), seed)
            same_config = self._has_same_config(folder)
            faults = []
            with (
                contextlib.chdir(folder),
                without_flushing(),
                contextlib.nullcontext() if whole else shortened(),
            ):
                for name, command in commands(whole).items():
                    if name not in without and (seed % UNREAD == 0 or reads(name, mutant)):
                        done[name] = command()
                        if what := self.fault(name, mutant, done[name], same_config):
                            faults.append(Fault(mutant, name, what))
                if Path("pwned").exists() or Path("run/pwned").exists():
                    faults.append(Fault(mutant, "all", "a command of the file was executed"))
            for path in folder.rglob("*"):
                if not path.is_symlink() and not path.exists():
                    path.chmod(0o600)
        return mutant, faults, done

    def _has_same_config(self, folder: Path) -> bool:
        try:
            file = folder / "run/config.yaml"
            return (
                file.is_file()
                and file.stat().st_size < 1e6
                and read_yaml(file.read_text()) == self.config
            )
        except (ValueError, OSError):
            return False

    def fault(self, name: str, mutant: Mutant, done: Outcome, same_config: bool) -> str:
        """Return what is wrong about what a command did; empty if nothing is."""
        if done.failure:
            return done.failure
        if done.code not in (0, 2):
            return f"exit code {done.code}: {done.err[-2000:]}"
        if "Warning:" in done.err:
            return f"a warning of a library: {done.err[-2000:]}"
        if done.code == 2:
            return _bad_error(mutant, done, self.siblings)
        if done.result == self.right[name].result:
            return ""
        if not done.result:
            return f"no result and no error: {done.err[-500:]}"
        if not reads(name, mutant):
            return f"another result, though it does not read the file: {done.result[:500]}"
        if self._may_differ(mutant, same_config):
            return ""
        return f"another result in silence: {done.result[:500]} {done.err[-500:]}"

    def _may_differ(self, mutant: Mutant, same_config: bool) -> bool:
        for file, kind in zip(mutant.files, mutant.kinds, strict=True):
            path = Path(file)
            if path.name == "config.yaml" and same_config:
                continue
            if kind in OTHER_VALUES or any(path.match(pattern) for pattern in OPEN):
                return True
        return False


def reads(command: str, mutant: Mutant) -> bool:
    """Return whether a command reads a file that is damaged."""
    return any(Path(file).match(p) for file in mutant.files for p in READS[command])


def _bad_error(mutant: Mutant, done: Outcome, siblings: dict[str, list[str]]) -> str:
    """Return what is wrong about an error: its form, or that it does not name the file."""
    try:
        assert_explained(done.err, [])
    except AssertionError:
        return f"no good message: {done.err[-2000:]!r}"
    names = [Path(file).name for file in mutant.files]
    for file, kind in zip(mutant.files, mutant.kinds, strict=True):
        names += siblings.get(str(Path(file).parent), []) if kind == "swapped" else []
    if "model_changed" in mutant.kinds:
        names.append("the tokenizers")  # both are whole; they do not fit the weights
    if any(Path(file).is_relative_to(CORPUS) for file in mutant.files):
        names += ["trained on other text", "validated on other text"]
    if "run/config.yaml" in mutant.files:
        names.append("corpus/")  # another file of text than the run's, with what is wrong about it
        names.append("expected a run that train.py has begun")  # without it none has
        if SETTING.search(done.err):
            return ""  # another value of a setting, of which the error speaks
    if not any(name in done.err for name in names):
        return f"names none of {', '.join(names)}: {done.err[-2000:]!r}"
    return ""
