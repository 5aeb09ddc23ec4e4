"""Score runs on a test set: BLEU, chrF and TER with their sacreBLEU signatures.

    python scripts/evaluate.py outputs/grammar_en_zh/layer-lstm-small-seed1 --split test_long

Two systems or more are compared with the first one by paired bootstrap (Koehn 2004): runs, and
translations of other systems by --hypotheses. Where the project is installed, `seq2seq-evaluate` is
the same command.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import DataConfig
from ..config.choices import expected_one_of
from ..config.languages import BLEU_TOKENIZERS
from ..errors import DataError
from ..files import write_text
from ..shown import counted
from .arguments import one_of, output_file, output_folder, parser
from .jobs import check_jobs, translated
from .options import add_search_options, open_ensemble, penalty_remark, search_of

if TYPE_CHECKING:
    from ..runs.folder import Run


def options() -> argparse.Namespace:
    """Parse the command line."""
    command = parser(__doc__)
    command.add_argument("runs", nargs="*", metavar="RUN", help="the folder of a run")
    command.add_argument(
        "--ensemble",
        nargs="+",
        default=[],
        metavar="RUN",
        help="several runs as one more system: the mean of their probabilities",
    )
    command.add_argument(
        "--hypotheses",
        nargs="+",
        default=[],
        metavar="FILE",
        help="translations of other systems, by line; NAME=FILE gives one a name",
    )
    text = command.add_argument_group("text", "a split of the corpus, or files of one's own")
    text.add_argument(
        "--split",
        metavar="NAME",
        help="valid, test, or another split of the corpus (default: test)",
    )
    text.add_argument("--source", metavar="FILE", help="text to translate instead of a split")
    text.add_argument(
        "--reference",
        nargs="+",
        metavar="FILE",
        help="its reference translations, by line; several files: several references",
    )
    add_scoring_options(command)
    add_search_options(command)
    output = command.add_argument_group("output")
    output.add_argument(
        "--json", type=output_file, metavar="FILE", help="also write the results there"
    )
    output.add_argument(
        "--save",
        type=output_folder,
        metavar="DIR",
        help="write the translations and references there, as they are compared",
    )
    asked = command.parse_args()
    check(command, asked)
    asked.split = asked.split or "test"
    return asked


def check(command: argparse.ArgumentParser, asked: argparse.Namespace) -> None:
    """Exit with code 2 unless the options name systems and a text."""
    if (asked.source is None) != (asked.reference is None):
        options = ("--source", "--reference")
        found, missing = options if asked.source else options[::-1]
        typed = asked.source or " ".join(asked.reference)
        command.error(f"{found} {typed}: expected {missing} FILE with it")
    if asked.source is not None and asked.split is not None:
        command.error(
            f"--split {asked.split}: --source {asked.source} takes its place; leave one of them out"
        )
    if not asked.runs and not asked.ensemble:
        command.error("no run; expected the folder of a run, or --ensemble RUN RUN ...")
    if len(asked.ensemble) == 1:
        command.error(
            f"--ensemble {asked.ensemble[0]}: expected two runs or more; a single one is named"
            " without --ensemble, before it"
        )
    folders = [Path(run).resolve() for run in asked.runs]
    for i, run in enumerate(asked.runs):
        if folders[i] in folders[:i]:
            command.error(f"{run}: a run is named twice; expected each once")


def add_scoring_options(command: argparse.ArgumentParser) -> None:
    """Add the options that choose metrics and what they compare."""
    scoring = command.add_argument_group("scores")
    scoring.add_argument(
        "--tokenize",
        type=one_of(BLEU_TOKENIZERS),
        metavar="NAME",
        help=f"how BLEU splits text: {', '.join(BLEU_TOKENIZERS)} (default: data.bleu_tokenizer of"
        " the run, else by its target language)",
    )
    scoring.add_argument(
        "--lowercase", action="store_true", help="ignore case in BLEU and chrF; TER always does"
    )
    scoring.add_argument(
        "--chrf++",
        dest="chrf_words",
        action="store_true",
        help="also chrF++, which counts words and pairs of words as well as characters",
    )


def systems_of(asked: argparse.Namespace) -> list[str]:
    """Return the names of the systems that are runs; ValueError where two have one name."""
    names = [*asked.runs, *([ensemble_name(asked.ensemble)] if asked.ensemble else [])]
    if names[-1] in names[:-1]:
        raise ValueError(f"--ensemble: a run is already named {names[-1]}; expected another name")
    return names


def ensemble_name(folders: list[str]) -> str:
    """Return the name of several runs as one system; that of a single run is its folder."""
    return " + ".join(folders)


def named_files(asked: argparse.Namespace) -> dict[str, str]:
    """Return the files of --hypotheses by their names: NAME=FILE, or the file itself.

    Raises ValueError for a name that another system has.
    """
    found: dict[str, str] = {}
    runs = systems_of(asked)
    for typed in asked.hypotheses:
        name, _, file = typed.partition("=")
        if Path(typed).exists() or not file:
            name, file = typed, typed
        if name in found or name in runs:
            raise ValueError(
                f"--hypotheses {typed}: a system is already named {name}; NAME=FILE gives another"
                " name, expected one for each system"
            )
        found[name] = file
    return found


def check_split(folder: str, data: DataConfig, name: str) -> None:
    """Raise ValueError for a split that a run's corpus does not have."""
    from ..data.corpora import splits

    known = {**splits(data), "valid": data.valid}  # part of train where there is none
    if name not in known:
        expected = expected_one_of(name, list(known), "its config.yaml names")
        raise ValueError(
            f"--split {name}: {folder} has no such split; {expected}"
            " (any text: --source FILE --reference FILE)"
        )


def changed_text(
    folder: str, run: "Run", split: str, source: list[str], reference: list[str]
) -> list[str]:
    """Return a line where the text of a split is not what a run's results.json was scored on."""
    from ..data.corpora import scored_text
    from ..runs.folder import RunError

    try:
        results = run.results()
    except RunError:  # damaged: its scores are not needed here
        return []
    scores = {"valid": results.valid, "test": results.test} if results else {}
    now, before = scored_text(source, reference), scores.get(split)
    changed = [key for key in now if getattr(before, key, None) not in (None, now[key])]
    if not changed:
        return []
    sides = " and ".join(key.partition("_")[0] for key in changed)
    verb = "has" if len(changed) == 1 else "have"
    return [
        f"{folder}: the {split} {sides} {verb} changed since results.json was written; its scores"
        " are those of the earlier text"
    ]


class Evaluation:
    """Translations by several systems of one test set, and their scores."""

    def __init__(self, asked: argparse.Namespace) -> None:
        from ..data.text import read_lines

        self.asked, self.paths = asked, named_files(asked)
        self.files = {name: list(read_lines(Path(file))) for name, file in self.paths.items()}
        """Translations of other systems: read first, as to translate takes longer."""
        self.first = [*asked.runs, *asked.ensemble][0]
        self.source: list[str] = []
        self.references: list[list[str]] = []
        """One list of lines for each reference."""
        self.language, self.tokenizer = "", ""
        self.changed: list[str] = []
        """Remarks about runs that were scored on other text before."""
        self.penalty = ""
        """A remark about the length penalty."""
        self.systems: dict[str, list[str]] = {}
        self.rows: list[dict[str, Any]] = []

    def begin(self) -> None:
        """Read the text to score on, before anything is translated.

        ValueError if a run or a file can't be compared with the first run.
        """
        from ..runs.folder import Run

        for folder in [*self.asked.runs, *self.asked.ensemble]:
            self._take_test_set(folder, Run.open(folder))
        self._check_files()

    def add_runs(self, folders: list[str]) -> None:
        """Translate and score with a run, or with several as one."""
        decode, drawn = search_of(folders[0], self.asked)
        if self.asked.jobs > 1:
            found = translated(folders, self.source, self.asked)
        else:
            session = open_ensemble(folders, self.asked)
            found = [best[0].text for best in session.translate(self.source, progress=True)]
        self.penalty = self.penalty or penalty_remark(decode, drawn, self.asked)
        how = {"decode": asdict(decode)}
        if drawn is not None:
            how["sampling"] = asdict(drawn)
        self._add(ensemble_name(folders), found, how)

    def add_files(self) -> None:
        """Score the translations of other systems."""
        for name, lines in self.files.items():
            self._add(name, lines, {"hypotheses": self.paths[name]})

    def _check_files(self) -> None:
        """Raise ValueError unless each file has a line for each of the source."""
        for name, lines in self.files.items():
            if len(lines) != len(self.source):
                raise ValueError(
                    f"--hypotheses {self.paths[name]}: has {counted(len(lines), 'line')}; expected"
                    f" {len(self.source)}, one for each line of"
                    f" {self.asked.source or self.asked.split}"
                )

    def _add(self, name: str, lines: list[str], how: dict[str, Any]) -> None:
        from ..data.corpora import scored_text
        from ..translation.scores import measured, metrics

        asked = metrics(self.tokenizer, self.language, self.asked.lowercase, self.asked.chrf_words)
        scores: dict[str, Any] = {}
        for key, (value, signature) in measured(lines, self.references, asked).items():
            scores |= {key: value, f"{key}_signature": signature}
        self.systems[name] = lines
        self.rows.append(
            {"run": name, **how, **scores, **scored_text(self.source, self.references[0])}
        )

    def _take_test_set(self, folder: str, run: "Run") -> None:
        """Read the text to score on; ValueError where a run before had other text or language."""
        from ..data.corpora import read_parallel, read_split

        asked, data, first = self.asked, run.config().data, self.first
        tokenizer = asked.tokenize or data.splits_for_bleu
        if asked.source is None:
            check_split(folder, data, asked.split)
            try:
                source, reference = read_split(data, asked.split)
            except DataError as error:
                raise DataError(
                    f"{error}; --source FILE --reference FILE scores any other text"
                ) from error
            references = [reference]
            self.changed += changed_text(folder, run, asked.split, source, reference)
        elif not self.source:
            source, *references = read_parallel([asked.source, *asked.reference])
        else:
            source, references = self.source, self.references
        if self.references and references != self.references:
            raise ValueError(
                f"{folder}: has other {asked.split} references than {first};"
                " expected runs on one corpus, or --source and --reference"
            )
        if self.language not in ("", data.target_language):
            raise ValueError(
                f"{folder}: translates into {data.target_language}, {first} into {self.language};"
                " expected runs with one target language"
            )
        if self.tokenizer not in ("", tokenizer):
            raise ValueError(
                f"{folder}: BLEU splits its text by {tokenizer}, that of {first} by"
                f" {self.tokenizer}; expected one for all (--tokenize NAME)"
            )
        self.source, self.references = source, references
        self.language, self.tokenizer = data.target_language, tokenizer

    def results(self) -> dict[str, Any]:
        """Return what --json writes."""
        found: dict[str, Any] = {
            "test_set": self.asked.source or self.asked.split,
            "references": self.asked.reference or [self.asked.split],
            "sentences": len(self.source),
            "tokenizer": self.tokenizer,
            "lowercase": self.asked.lowercase,
            "remarks": self.remarks(),
            "runs": self.rows,
        }
        if len(self.systems) > 1:
            found |= self.significance()
        return found

    def significance(self) -> dict[str, Any]:
        """Return the comparison of each system with the first one, in BLEU and in chrF."""
        from ..translation.scores import metrics, paired_bootstrap

        found = {}
        tested = metrics(self.tokenizer, self.language, self.asked.lowercase)
        for key, name in (("bleu", "paired_bootstrap"), ("chrf", "paired_bootstrap_chrf")):
            signature, rows = paired_bootstrap(self.systems, self.references, tested[key])
            found[name] = {
                "signature": signature,
                "runs": [
                    {
                        "name": row.name,
                        key: row.score,
                        "mean": row.mean,
                        "interval": row.interval,
                        "p_value": row.p_value,
                    }
                    for row in rows
                ],
            }
        return found

    def remarks(self) -> list[str]:
        """Return what a reader of the scores has to know."""
        from ..translation.scores import short_remark, ter_metric, tokenized_remark

        texts = {"references": self.references[0], **self.systems}
        found = [*self.changed, self.penalty, short_remark(self.references[0], self.tokenizer)]
        found += [tokenized_remark(name, lines) for name, lines in texts.items()]
        if ter_metric(self.language) is None:
            found.append(
                f"no TER: it counts words between spaces, and {self.language} is written without"
            )
        return [remark for remark in found if remark]


def main() -> None:
    """Parse the command line, score each system, print, and write files on request."""
    asked = options()  # first: --help needs no package
    if asked.jobs > 1:
        check_jobs(asked)
    from .evaluation_table import sacrebleu_command, save, show

    evaluation = Evaluation(asked)
    evaluation.begin()
    for folder in asked.runs:
        evaluation.add_runs([folder])
    if asked.ensemble:
        evaluation.add_runs(asked.ensemble)
    evaluation.add_files()
    results = evaluation.results()
    results["sacrebleu"] = sacrebleu_command(results, evaluation.language, asked.save)
    try:
        if asked.json is not None:
            write_text(asked.json, json.dumps(results, indent=2, ensure_ascii=False) + "\n")
        if asked.save is not None:
            save(asked.save, evaluation.systems, evaluation.references)
    finally:  # printed though they cannot be written, and written though nobody reads them
        show(results, is_saved=asked.save is not None)
