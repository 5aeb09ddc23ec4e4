"""scripts/compare.py as a user runs it: the files that it writes, and the page."""

import base64
import csv
import io
import json
import re
from pathlib import Path

import pytest
from comparison_page import Page, markdown
from conftest import final_results
from fixture_types import Compare, Variant
from matplotlib.image import imread
from runs import Runs, Script

from seq2seq import __version__
from seq2seq.figures import NORM_COLOURS
from seq2seq.report.columns import COLUMNS
from seq2seq.report.page import write_report
from seq2seq.runs.folder import Run
from seq2seq.runs.records import read_runs

pytest_plugins = ["run_fixtures", "compare_fixtures"]


@pytest.fixture(scope="module")
def compared(two_runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that compare.py makes of the two runs."""
    out = tmp_path_factory.mktemp("compared")
    write_report([str(two_runs.none), str(two_runs.layer)], out, "python scripts/compare.py RUNS")
    return out


# -- what is written ---


FIGURES = sorted(
    f"{name}.{kind}"
    for name in ("time_to_loss", "training_loss", "validation_bleu", "validation_loss")
    for kind in ("png", "svg")
)


def test_a_table_figures_and_a_page(two_runs: Runs, compare: Compare, tmp_path: Path) -> None:
    done = compare(two_runs.none, two_runs.layer)
    assert (done.code, done.err) == (0, "")
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == [
        "figures",
        "report.html",
        "report.md",
        "results.csv",
    ]
    assert sorted(p.name for p in (out / "figures").iterdir()) == FIGURES
    results = {norm: final_results(Run(getattr(two_runs, norm))) for norm in ("none", "layer")}

    rows = list(csv.DictReader(io.StringIO((out / "results.csv").read_text())))
    assert list(rows[0]) == [column.key for column in COLUMNS]
    for row, (norm, r) in zip(rows, results.items(), strict=True):
        settings = {
            "run": f"{norm}-lstm-tiny-seed1",
            "status": "finished",
            "experiment": "",
            "size": "",
            "corpus": "toy",
            "cell": "lstm",
            "norm": norm,
            "seed": "1",
            "learning_rate": "0.02",
            "batch_sentences": "24",
            "batch_tokens": "",
        }
        assert {key: row[key] for key in settings} == settings
        expected = {
            "test_bleu": r["test"]["bleu"],
            "test_chrf": r["test"]["chrf"],
            "valid_bleu": r["valid"]["bleu"],
            "valid_loss": r["valid_loss"],
            "update": r["update"],
            "parameters": r["parameters"],
            "tokens_per_second": r["tokens_per_second"],
            "minutes": r["wall_seconds"] / 60,
        }
        assert {key: float(row[key]) for key in expected} == pytest.approx(expected)

    shown = [line.split() for line in done.out.splitlines()]
    for row in rows:
        cells = [
            row["norm"],
            *(
                f"{float(row[key]):,.{n}f}"
                for key, n in (
                    ("test_bleu", 1),
                    ("test_chrf", 1),
                    ("valid_bleu", 1),
                    ("valid_loss", 3),
                    ("update", 0),
                    ("tokens_per_second", 0),
                    ("minutes", 1),
                    ("parameters", 0),
                )
            ),
        ]
        assert cells in shown
    first = max(results, key=lambda norm: results[norm]["test"]["bleu"])
    assert f"toy: test BLEU {first} {results[first]['test']['bleu']:.1f}, " in done.out


def test_the_page_contains_the_results(two_runs: Runs, compared: Path) -> None:
    html = (compared / "report.html").read_text(encoding="utf-8")
    page, results = Page(html), final_results(Run(two_runs.none))
    assert page.open == []
    assert page.texts["h1"] == page.texts["title"] == ["Comparison of 2 runs"]
    for column in COLUMNS:
        assert column.title in page.texts["th"]
    assert "none-lstm-tiny-seed1" in page.texts["td"]
    assert f"{results['test']['bleu']:.1f}" in page.texts["td"]
    assert page.texts["p"][0] == "Recurrent translators compared: no norm and layer norm."
    assert results["test"]["bleu_signature"] in page.texts["code"]
    assert results["test"]["bleu_signature"] in (compared / "report.md").read_text(encoding="utf-8")
    assert "BLEU, chrF" in page.texts["dt"]
    assert "bucket" not in page.texts["dt"]  # no experiment here has them
    (css,) = page.texts["style"]
    assert not any(
        colour in css for colour in NORM_COLOURS.values()
    )  # a verdict has no norm's colour
    assert any(text.startswith("python ") and "compare.py" in text for text in page.texts["code"])
    assert page.texts["p"][2].startswith("toy: test BLEU layer ")
    assert page.texts["th"][:7] == [
        "compared with none",
        "test BLEU difference (95%)",
        "significant?",
        "target tokens/s",
        "common loss",
        "updates to it",
        "time to it",
    ]
    assert page.texts["td"][0] == "layer"
    assert page.texts["td"][2] == "one seed cannot tell"
    assert (
        "On this test set the model with layer is significantly better than none (p = 0.0" in html
    )
    assert "One seed cannot tell whether the norm is the reason" in html
    commit = f" (commit {results['commit']})" if "commit" in results else ""
    assert (
        f"Trained on cpu, {results['processor']}, 1 thread, seq2seq"
        f" {results['versions']['seq2seq']}{commit}, " in html
    )
    assert f"torch {results['versions']['torch']}" in html
    text = (compared / "report.md").read_text(encoding="utf-8")
    assert "\n## Terms\n\n- **none, batch, layer, rms**: " in text
    assert f"\nWritten by seq2seq {__version__}, Python " in text
    assert not any(
        "None" in text for kind, texts in page.texts.items() for text in texts if kind != "script"
    )


def test_pictures_on_the_page_equal_the_files(two_runs: Runs, compared: Path) -> None:
    page = Page((compared / "report.html").read_text(encoding="utf-8"))
    figures = compared / "figures"
    shown = [
        base64.b64decode(image["src"].partition("base64,")[2])
        for image in page.images
        if image.get("class") == "picture"
    ]
    assert sorted(shown) == sorted(path.read_bytes() for path in figures.glob("*.svg"))
    assert all(image["alt"] for image in page.images)
    for path in figures.glob("*.png"):
        height, width, _ = imread(path).shape
        assert width > 2 * height > 800


def test_example_translations_are_shown_with_their_references(
    two_runs: Runs, compared: Path
) -> None:
    page = Page((compared / "report.html").read_text(encoding="utf-8"))
    texts = (two_runs.layer / "translations" / "test.txt").read_text(encoding="utf-8").splitlines()
    pairs = dict(zip(two_runs.sources, zip(two_runs.references, texts, strict=True), strict=True))
    shown = page.texts["dd"]
    sources = [text for text in shown if text in pairs]
    assert len(sources) == 5
    for source in sources:
        place = shown.index(source)
        assert shown[place + 1] == pairs[source][0]
        assert shown[place + 3] == pairs[source][1]  # the translation without norm is between them
    assert len(page.maps) == 4


def test_the_page_needs_no_other_files(two_runs: Runs, compared: Path) -> None:
    html = (compared / "report.html").read_text(encoding="utf-8")
    ours = re.sub(r'<script id="vega">.*?</script>', "", html, flags=re.DOTALL)
    assert len(ours) < len(html) - 5e5
    assert not re.search(r'(src|href)="(?!data:|#)|https?://', ours)
    for part in (
        '<meta charset="utf-8">',
        "width=device-width",
        "color-scheme: light dark",
        "overflow-x: auto",
        "prefers-color-scheme: dark",
        "@media print",
    ):
        assert part in html


def test_the_table_is_at_most_80_columns_wide(
    two_runs: Runs, compare: Compare, variant: Variant
) -> None:
    done = compare(
        two_runs.none, two_runs.layer, variant("b", seed=2), variant("c", "layer", seed=2)
    )
    table = done.out[: done.out.index("\n\n")].splitlines()
    assert len(table) == 8
    assert table[-1] == "BLEU on Chinese characters, and words of other scripts (tokenizer zh)"
    assert max(map(len, table)) <= 80


def test_charts_of_an_earlier_comparison_are_removed_but_not_other_files(
    two_runs: Runs, compare: Compare, tmp_path: Path, variant: Variant
) -> None:
    figures = tmp_path / "out" / "figures"
    compare(two_runs.none, variant("b", data__name="other"))
    assert len(list(figures.iterdir())) == 2 * len(FIGURES)
    (figures / "mine.png").write_bytes(b"")
    assert compare(two_runs.none, two_runs.layer).code == 0
    assert sorted(p.name for p in figures.iterdir()) == sorted([*FIGURES, "mine.png"])


def test_a_failed_comparison_leaves_the_earlier_one_unchanged(
    two_runs: Runs,
    compare: Compare,
    tmp_path: Path,
    variant: Variant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compare(two_runs.none, two_runs.layer)
    former = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}

    def fails(*_: object) -> None:
        raise ValueError("examples.json: damaged; expected JSON")

    monkeypatch.setattr("seq2seq.report.page.worked_examples", fails)
    assert compare(two_runs.none, variant("b", data__name="other")).code == 2
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == former


def test_names_and_failures_are_not_read_as_markup(
    two_runs: Runs, compare: Compare, variant: Variant, tmp_path: Path
) -> None:
    """Neither as the terminal's markup nor as a Markdown table; all lines of a failure are kept."""
    failed = variant("failed")
    Run(failed).results_file.unlink()
    Run(failed).failure_file.write_text("loss is\nnot finite\n")
    done = compare(variant("a[red]"), variant("b[/x]", optimizer__lr=0.5), failed)
    assert done.code == 0, done.err
    assert "a[red]" in done.out
    assert "note: failed: left out: failed: loss is not finite" in done.out.splitlines()
    odd = variant("c", "layer", data__root="x", data__name="a|b")
    assert (
        compare(
            odd,
            variant("d", data__name="a|b"),
            variant("e", "layer", data__name="a|b", seed=2, model__hidden_size=6),
        ).code
        == 0
    )
    tables = markdown((tmp_path / "out" / "report.md").read_text(encoding="utf-8"))[0]
    assert tables
    for table in tables:
        assert {len(row) for row in table} == {len(table[0])}


def test_the_output_names_the_folder_for_tensorboard(
    two_runs: Runs, compare: Compare, variant: Variant
) -> None:
    parent = two_runs.none.parent
    shown = compare(two_runs.none, two_runs.layer).out.splitlines()[-1]
    folder = shown.partition("--logdir ")[2]
    assert Path(folder).resolve() == parent
    folder = compare(two_runs.none).out.splitlines()[-1].partition("--logdir ")[2]
    assert Path(folder).resolve() == two_runs.none


@pytest.mark.parametrize("name", ["report.html", "report.md", "results.csv"])
def test_the_users_own_files_are_not_overwritten(
    name: str, two_runs: Runs, compare: Compare, tmp_path: Path
) -> None:
    (tmp_path / "out" / "figures").mkdir(parents=True)
    own = {
        tmp_path / "out" / name: "![mine](figures/mine.png)",
        tmp_path / "out" / "figures" / "mine.png": "mine",
    }
    for file, text in own.items():
        file.write_text(text)
    done = compare(two_runs.none, two_runs.layer)
    assert done.code == 2
    assert (
        f"{name}: not written by this program; expected a folder without such a file (--out"
        " DIR)" in done.err
    )
    assert {file: file.read_text() for file in tmp_path.glob("out/**/*") if file.is_file()} == own


def test_charts_have_different_file_names(
    two_runs: Runs, compare: Compare, variant: Variant, tmp_path: Path
) -> None:
    """Runs are of an experiment, of none, and of corpora with the same name in a file's name."""
    folders = [
        variant("a", experiment="convergence", size="quick"),
        variant("b", data__name="other text"),
        variant("c", data__name="other/text"),
        two_runs.layer,
    ]
    done = compare(*folders)
    assert done.code == 0, done.err
    _, images = markdown((tmp_path / "out" / "report.md").read_text(encoding="utf-8"))
    assert len(images) == len(set(images)) == 4 * 4
    assert all((tmp_path / "out" / image).is_file() for image in images)
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    pictures = [image["src"] for image in page.images if image.get("class") == "picture"]
    files = [
        base64.b64encode((tmp_path / "out" / image).with_suffix(".svg").read_bytes()).decode()
        for image in images
    ]
    assert [picture.partition("base64,")[2] for picture in pictures] == files


def test_curves_equal_the_logged_values(two_runs: Runs) -> None:
    runs, _ = read_runs([str(two_runs.layer)])
    entries = [
        json.loads(line) for line in (two_runs.layer / "metrics.jsonl").read_text().splitlines()
    ]
    for kind, key in (("train", "nll"), ("valid", "loss"), ("valid", "bleu")):
        logged = [(e["seconds"], e[key]) for e in entries if e["kind"] == kind]
        assert list(zip(*runs[0].series(kind, key, "seconds"), strict=True)) == logged
    assert len([e for e in entries if e["kind"] == "train"]) == 40


def test_an_experiment_names_the_page(variant: Variant, compare: Compare, tmp_path: Path) -> None:
    compare(variant("a", experiment="my_<rates>"), variant("b", "layer", experiment="my_<rates>"))
    html = (tmp_path / "out" / "report.html").read_text()
    assert Page(html).texts["h1"] == ["My <rates>: comparison of 2 runs"]
    assert "<rates>" not in html


def test_help_describes_every_option(script: Script) -> None:
    done = script("compare")("--help")
    assert done.code == 0
    for part in ("--out DIR", "report.html", "results.csv", "outputs/grammar_en_zh/*"):
        assert part in done.out
