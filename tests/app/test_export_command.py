"""scripts/export.py: the folder that it writes translates as translate.py does, without us."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Done, exit_code
from runs import Command, Runs, Script, printed_lines

from seq2seq.app import export

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
pytest_plugins = ["run_fixtures", "process_fixtures"]

ROOT = Path(__file__).resolve().parents[2]
FILES = {
    *("README.md", "translate.py", "text.py", "text.json", "settings.json"),
    *(f"tokenizer.{side}.{end}" for side in ("source", "target") for end in ("model", "vocab")),
    *(f"{name}{kind}.onnx" for name in ("encoder", "decoder_step") for kind in ("", ".int8")),
}


@pytest.fixture
def exporting(script: Script) -> Command:
    return script("export")


@pytest.fixture(scope="module")
def exported(
    two_runs: Runs, forked_python: list[str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, "subprocess.CompletedProcess[str]"]:
    """Return an exported folder, and what the command printed."""
    folder = tmp_path_factory.mktemp("exported") / "folder"
    script, run = ROOT / "scripts" / "export.py", two_runs.layer
    command = [*forked_python, str(script), str(run), "--out", str(folder), "--int8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done


def run_program(folder: Path, *arguments: str, stdin: str) -> list[str]:
    """Return what the folder's translate.py prints, run where this package is not to be found."""
    done = subprocess.run(
        [sys.executable, "-E", "translate.py", *arguments],
        cwd=folder, input=stdin, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split("\n")[:-1]


def test_the_folder_translates_as_the_run_does(
    exported: tuple[Path, object], two_runs: Runs, translate: Command
) -> None:
    folder, _ = exported
    lines = ["", "  one   dogs&nbsp;see two ＣＡＴＳ", "never seen words", *two_runs.sources]
    stdin = "".join(line + "\n" for line in lines)
    for beam in ("1", "4"):
        expected = printed_lines(translate(two_runs.layer, "--beam", beam, stdin=stdin))
        assert run_program(folder, "--beam", beam, stdin=stdin) == expected
    assert run_program(folder, stdin=stdin) == printed_lines(translate(two_runs.layer, stdin=stdin))
    assert len(run_program(folder, "--int8", stdin=stdin)) == len(lines)


def test_the_command_says_what_it_has_compared(
    exported: tuple[Path, "subprocess.CompletedProcess[str]"],
) -> None:
    folder, done = exported
    greedy, beam, size, same, bleu, written = done.stdout.splitlines()
    assert greedy.startswith("greedy: 30 of 30 translations of test are the run's; largest")
    assert beam.startswith("beam 5: 30 of 30 translations of test are the run's; largest")
    assert float(greedy.split()[-1]) < 1e-4
    before, after = (float(size.split()[i]) for i in (6, 2))
    assert 0 < after < before
    assert same.startswith("8 bits, beam 5: ")
    assert bleu.startswith("8 bits, beam 5: BLEU ")
    assert written == f"{folder}: written; its README.md says how to use it"


def test_the_folder_is_complete_and_needs_three_packages(exported: tuple[Path, object]) -> None:
    folder, _ = exported
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == FILES
    assert len((folder / "translate.py").read_text().splitlines()) <= 60
    needed = set()
    for program in ("translate.py", "text.py"):
        for node in ast.walk(ast.parse((folder / program).read_text())):
            if isinstance(node, ast.Import):
                needed |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert not node.level
                needed.add(str(node.module))
    others = {name for name in needed if name.partition(".")[0] not in sys.stdlib_module_names}
    assert others == {"numpy", "onnxruntime", "sentencepiece", "text"}
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["beam_size"] == 5
    assert settings["max_length"] == [2.0, 10.0]
    assert settings["norm"] == "layer"
    assert len(settings["run"]["checkpoint_sha256"]) == 64


@pytest.fixture
def without_torch(exported: tuple[Path, object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the command take the networks that exist instead of exporting them again."""
    folder, _ = exported

    def copied(_: object, to: Path) -> None:
        for name in ("encoder.onnx", "decoder_step.onnx"):
            shutil.copy(folder / name, to)

    monkeypatch.setattr("seq2seq.export.folder.write_networks", copied)


@pytest.mark.usefixtures("without_torch")
def test_a_difference_is_a_failure_and_nothing_is_written(
    exporting: Command, two_runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seq2seq.export.example import Translator

    right = Translator.search

    def wrong(self: Translator, src: list[int], beam: int) -> tuple[float, float, list[int]]:
        score, log_p, ids = right(self, src, beam)
        return score - 0.01, log_p, ids[:-1]

    monkeypatch.setattr(Translator, "search", wrong)
    done = exporting(two_runs.layer, "--out", tmp_path / "out", "--check", 4)
    assert done.code == 1
    assert "0 of 4 translations" in done.out
    assert two_runs.sources[0] in done.out
    assert "4 translations are not the run's; nothing is written" in done.err
    done = exporting(two_runs.layer, "--out", tmp_path / "out", "--check", 1)
    assert "0 of 1 translation of test is the run's" in done.out
    assert "1 translation is not the run's; nothing is written" in done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("without_torch")
def test_translations_of_equal_score_are_ties(
    exporting: Command, two_runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seq2seq.export.example import Translator

    right = Translator.search

    def other(self: Translator, src: list[int], beam: int) -> tuple[float, float, list[int]]:
        score, log_p, ids = right(self, src, beam)
        return score + 1e-6, log_p, ids[:-1]

    monkeypatch.setattr(Translator, "search", other)
    done = exporting(two_runs.layer, "--out", tmp_path / "out", "--check", 4, "--beam", 1)
    assert done.code == 0
    assert "greedy: 0 of 4 translations of test are the run's, 4 more are ties" in done.out


@pytest.mark.usefixtures("without_torch")
def test_own_sentences_and_settings(exporting: Command, two_runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("one dogs see two cats\n\n")
    arguments = ("--source", tmp_path / "lines", "--beam", 3, "--length-penalty", 0.5)
    done = exporting(two_runs.layer, "--out", tmp_path / "out", *arguments, "--max-length", "1x+2")
    assert done.code == 0
    assert f"beam 3: 2 of 2 translations of {tmp_path / 'lines'} are the run's" in done.out
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert (settings["beam_size"], settings["length_penalty"]) == (3, 0.5)
    assert settings["max_length"] == [1.0, 2.0]


@pytest.mark.usefixtures("without_torch")
def test_no_check_is_said(exporting: Command, two_runs: Runs, tmp_path: Path) -> None:
    done = exporting(two_runs.layer, "--out", tmp_path / "out", "--check", 0)
    assert done.code == 0
    assert done.out.startswith("not checked (--check 0)\n")
    assert (tmp_path / "out" / "encoder.onnx").exists()


def refused(done: Done, *parts: str) -> None:
    assert done.code == 2
    assert done.out == ""
    for part in parts:
        assert part in done.err


def test_what_exists_is_not_overwritten(exporting: Command, two_runs: Runs, tmp_path: Path) -> None:
    refused(exporting(two_runs.layer, "--out", tmp_path), "exists already; expected a new folder")
    assert list(tmp_path.iterdir()) == []


def test_sentences_that_nothing_compares_are_refused(
    exporting: Command, two_runs: Runs, tmp_path: Path
) -> None:
    done = exporting(two_runs.layer, "--out", tmp_path, "--check", 0, "--source", "lines.txt")
    refused(done, "--check 0: compares nothing, so that --source lines.txt has no effect; leave")


def test_sentences_to_compare_are_read_before_the_export(
    exporting: Command, two_runs: Runs, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    done = exporting(two_runs.layer, "--out", tmp_path / "out", "--source", tmp_path / "empty")
    refused(done, "empty: empty; expected one sentence on each line")
    shutil.copytree(two_runs.layer, tmp_path / "run")
    settings = tmp_path / "run" / "config.yaml"
    data = two_runs.data.test
    settings.write_text(settings.read_text().replace(str(data.source), "elsewhere/test.en"))
    done = exporting(tmp_path / "run", "--out", tmp_path / "out")
    refused(done, "data.test.source=elsewhere/test.en: no such file", "--check 0", "--source FILE")
    assert "exporting takes" not in done.err
    assert not (tmp_path / "out").exists()


def test_a_missing_extra_is_named(
    two_runs: Runs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setattr(
        sys, "argv", ["export.py", str(two_runs.layer), "--out", str(tmp_path / "x")]
    )
    assert exit_code(export.main) == 2
    assert capfd.readouterr().err == "export.py: needs onnxscript: pip install 'seq2seq[onnx]'\n"
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("min_length: 0", "min_length: 3"),
        ("no_repeat_ngram: 0", "no_repeat_ngram: 3"),
        ("shortlist: 0", "shortlist: 50"),
        ("replace_unk: false", "replace_unk: true"),
    ],
)
def test_a_search_that_the_program_does_not_have_is_refused(
    exporting: Command, two_runs: Runs, tmp_path: Path, old: str, new: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(two_runs.layer, run)
    config = (run / "config.yaml").read_text()
    assert old in config
    (run / "config.yaml").write_text(config.replace(old, new))
    done = exporting(run, "--out", tmp_path / "out")
    rule = f"decode.{new.replace(': ', '=')}"
    assert done.code == 2
    assert rule in done.err
    assert "--plain-search" in done.err
    assert not (tmp_path / "out").exists()
