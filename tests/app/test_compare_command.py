"""scripts/compare.py as a user runs it: the table, the curves, the page, and what differs between
runs.
"""

import base64
import csv
import io
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from matplotlib.image import imread

from seq2seq.figures import NORM_COLOURS
from seq2seq.report.columns import COLUMNS
from seq2seq.report.experiments import statement
from seq2seq.report.page import write_report
from seq2seq.runs.folder import Run, RunError
from seq2seq.runs.records import read_runs

pytest_plugins = ["run_fixtures"]


@pytest.fixture
def compare(script, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    command = script("compare")
    return lambda *arguments: command(*arguments, "--out", tmp_path / "out")


@pytest.fixture(scope="module")
def compared(two_runs, tmp_path_factory):
    """The folder that compare.py makes of the two runs."""
    out = tmp_path_factory.mktemp("compared")
    write_report([str(two_runs.none), str(two_runs.layer)], out, "python scripts/compare.py RUNS")
    return out


def markdown(text):
    """The tables, each a list of rows of cells, and the images' files."""
    tables, images, in_cell = [], [], False
    for token in MarkdownIt().enable("table").parse(text):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type == "inline":
            images += [child.attrs["src"] for child in token.children if child.type == "image"]
            if in_cell:
                tables[-1][-1].append("".join(child.content for child in token.children))
        in_cell = token.type in ("td_open", "th_open")
    return tables, images


@pytest.fixture
def variant(two_runs, tmp_path):
    """A copy of a run with another configuration and other results."""

    def make(name, norm="none", results=(), **config):
        folder = tmp_path / "runs" / name
        shutil.copytree(getattr(two_runs, norm), folder)
        run = Run(folder)
        found, settings = run.results() | dict(results), run.config()
        for key, value in config.items():
            group, _, option = key.rpartition("__")
            setattr(getattr(settings, group) if group else settings, option, value)
        found["seed"] = settings.seed
        run.results_file.write_text(json.dumps(found))
        run.save_config(settings)
        return str(folder)

    return make


class Page(HTMLParser):
    """What a page says and shows: the texts of each kind of element, and its images."""

    def __init__(self, html):
        super().__init__()
        self.texts, self.images, self.open, self.classes = {}, [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.classes += dict(attributes).get("class", "").split()
        if tag == "img":
            self.images.append(dict(attributes))
        if tag not in ("img", "meta", "br", "link", "input"):
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts[self.open[-1]][-1] += data


# -- what is written ---


FIGURES = sorted(
    f"{name}.{kind}"
    for name in ("time_to_loss", "training_loss", "validation_bleu", "validation_loss")
    for kind in ("png", "svg")
)


def test_a_table_figures_and_a_page(two_runs, compare, tmp_path):
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
    results = {norm: Run(getattr(two_runs, norm)).results() for norm in ("none", "layer")}

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


def test_what_the_page_says(two_runs, compared):
    html = (compared / "report.html").read_text(encoding="utf-8")
    page, results = Page(html), Run(two_runs.none).results()
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
    assert not any(colour in css for colour in NORM_COLOURS.values())  # a verdict is no norm's
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
    assert (
        f"Trained on cpu, {results['processor']}, 1 thread, seq2seq"
        f" {results['versions']['seq2seq']}, " in html
    )
    assert f"torch {results['versions']['torch']}" in html
    assert not any(
        "None" in text for kind, texts in page.texts.items() for text in texts if kind != "script"
    )


def test_pictures_on_the_page_are_the_files(two_runs, compared):
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


def test_worked_translations_stand_beside_their_references(two_runs, compared):
    page = Page((compared / "report.html").read_text(encoding="utf-8"))
    texts = (two_runs.layer / "translations" / "test.txt").read_text(encoding="utf-8").splitlines()
    pairs = dict(zip(two_runs.sources, zip(two_runs.references, texts, strict=True), strict=True))
    shown = page.texts["dd"]
    sources = [text for text in shown if text in pairs]
    assert len(sources) == 5
    for source in sources:
        place = shown.index(source)
        assert shown[place + 1] == pairs[source][0]
        assert shown[place + 3] == pairs[source][1]  # none's is between them
    assert len([image for image in page.images if image["alt"].startswith("Attention of")]) == 4


def test_the_page_stands_alone(two_runs, compared):
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


def test_the_table_fits_eighty_columns(two_runs, compare, variant):
    done = compare(
        two_runs.none, two_runs.layer, variant("b", seed=2), variant("c", "layer", seed=2)
    )
    table = done.out[: done.out.index("\n\n")].splitlines()
    assert len(table) == 7
    assert max(map(len, table)) <= 80


def test_charts_of_a_former_comparison_are_removed_and_other_files_are_not(
    two_runs, compare, tmp_path, variant
):
    figures = tmp_path / "out" / "figures"
    compare(two_runs.none, variant("b", data__name="other"))
    assert len(list(figures.iterdir())) == 2 * len(FIGURES)
    (figures / "mine.png").write_bytes(b"")
    assert compare(two_runs.none, two_runs.layer).code == 0
    assert sorted(p.name for p in figures.iterdir()) == sorted([*FIGURES, "mine.png"])


def test_a_comparison_that_fails_leaves_the_former_one_as_it_was(
    two_runs, compare, tmp_path, variant, monkeypatch
):
    compare(two_runs.none, two_runs.layer)
    former = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}

    def fails(*_):
        raise ValueError("no examples")

    monkeypatch.setattr("seq2seq.report.page.worked_examples", fails)
    assert compare(two_runs.none, variant("b", data__name="other")).code == 2
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == former


def test_names_and_failures_are_told_as_they_are(two_runs, compare, variant, tmp_path):
    """Not as the terminal's markup, nor as a table's in Markdown; of several lines none is lost."""
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


def test_where_the_curves_are_live(two_runs, compare, variant):
    parent = two_runs.none.parent
    shown = compare(two_runs.none, two_runs.layer).out.splitlines()[-1]
    folder = shown.partition("--logdir ")[2]
    assert Path(folder).resolve() == parent
    folder = compare(two_runs.none).out.splitlines()[-1].partition("--logdir ")[2]
    assert Path(folder).resolve() == two_runs.none


# -- odd runs ---


def test_a_run_without_a_test_set(two_runs, compare, variant, tmp_path):
    lone = variant("lone")
    results = Run(lone).results()
    del results["test"]
    results["valid"]["bleu_signature"] = "BLEU|of valid"
    Run(lone).results_file.write_text(json.dumps(results))
    done = compare(lone, two_runs.layer)
    assert done.code == 0, done.err
    row = next(line.split() for line in done.out.splitlines() if line.startswith("none"))
    assert row[1:3] == ["–", "–"]
    assert row[3] == f"{results['valid']['bleu']:.1f}"
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "results.csv").read_text())))
    assert rows[0]["test_bleu"] == rows[0]["test_chrf"] == ""
    assert "BLEU|of valid" in (tmp_path / "out" / "report.html").read_text()


def test_a_run_without_metrics(two_runs, compare, variant):
    bare = variant("bare")
    Run(bare).metrics_file.unlink()
    done = compare(bare, two_runs.layer)
    assert done.code == 0, done.err
    assert (
        "note: bare: metrics.jsonl is missing or empty, so it has no curves"
        in done.out.splitlines()
    )
    assert "no curves" not in compare(two_runs.none, two_runs.layer).out


def test_unfinished_and_failed_runs_are_shown_and_left_out(two_runs, compare, variant, tmp_path):
    begun, failed = variant("begun"), variant("failed")
    for folder in (begun, failed):
        Run(folder).results_file.unlink()
    Run(failed).failure_file.write_text("loss is not finite\n")
    done = compare(two_runs.none, begun, failed)
    assert (done.code, done.err) == (0, "")
    assert (
        f"note: begun: left out: has not finished; resume it with: python train.py resume={begun}"
        in done.out
    )
    assert "note: failed: left out: failed: loss is not finite" in done.out
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "results.csv").read_text())))
    assert [row["status"] for row in rows] == ["finished", "unfinished", "failed"]
    assert rows[1]["test_bleu"] == ""
    assert compare(begun).code == 0


def test_a_folder_in_which_no_run_has_begun_is_a_note(two_runs, compare, tmp_path):
    bare, failed = tmp_path / "bare", tmp_path / "failed"
    for folder in (bare, failed):
        folder.mkdir()
    (failed / "failure.txt").write_text("no CUDA device\n")
    done = compare(bare, two_runs.none, failed)
    assert (done.code, done.err) == (0, "")
    assert "note: bare: left out: its training has not begun" in done.out.splitlines()
    assert "note: failed: left out: failed: no CUDA device" in done.out.splitlines()
    alone = compare(bare, failed)
    assert alone.code == 2
    assert (
        "no run can be compared: bare: left out: its training has not begun; failed: left out:"
        " failed: " in alone.err
    )


# -- the test set that the runs were scored on ---


def test_a_report_needs_neither_the_corpus_nor_the_model(two_runs, compare, variant, tmp_path):
    """Translations, attention maps and p-values are read from the runs' folders."""
    nowhere = replace(two_runs.data.test, source="nowhere.en", target="nowhere.zh")
    folders = [variant(norm, norm, data__test=nowhere) for norm in ("none", "layer")]
    for folder in folders:
        shutil.rmtree(Path(folder) / "checkpoints")
        for file in Path(folder).glob("tokenizer*"):
            file.unlink()
    assert compare(*folders).code == 0
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert len([text for text in page.texts["dd"] if text in two_runs.sources]) == 5
    maps = [image for image in page.images if image["alt"].startswith("Attention of")]
    assert len(maps) == 4
    assert p_values(tmp_path)["layer"] != "–"


def p_values(folder):
    """The p of each norm, from the report's table of norms."""
    table = markdown((folder / "out" / "report.md").read_text(encoding="utf-8"))[0][1]
    place = table[0].index("p against none, by seed")
    return {row[0]: row[place] for row in table[1:]}


def test_runs_of_older_versions_have_no_examples_and_no_p_values(
    two_runs, compare, variant, tmp_path
):
    """They did not store the text that they were scored on."""
    old = [variant(norm, norm) for norm in ("none", "layer")]
    for folder in old:
        for name in ("test.source.txt", "test.reference.txt", "examples.json"):
            (Path(folder) / "translations" / name).unlink()
    done = compare(*old)
    assert done.code == 0, done.err
    assert (
        "note: toy: no worked translations are shown: translations/examples.json is missing in none,"
        " layer; runs of older versions have no p-values either" in done.out.splitlines()
    )
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert not [text for text in page.texts.get("dd", ()) if text in two_runs.sources]
    assert p_values(tmp_path)["layer"] == "–"


def test_different_sentences_are_not_shown_side_by_side(two_runs, compare, variant):
    odd = variant("odd", "layer")
    file = Path(odd) / "translations" / "examples.json"
    examples = json.loads(file.read_text(encoding="utf-8"))
    examples[0]["source"] = "another sentence"
    file.write_text(json.dumps(examples), encoding="utf-8")
    done = compare(two_runs.none, odd)
    assert done.code == 0, done.err
    assert "note: toy: no worked translations are shown: the runs have stored different" in done.out


def test_damaged_examples_are_named(two_runs, compare, variant):
    damaged = variant("damaged", "layer")
    (Path(damaged) / "translations" / "examples.json").write_text("[")
    done = compare(two_runs.none, damaged)
    assert done.code == 2
    assert "examples.json: damaged" in done.err


def test_a_norm_is_compared_with_the_run_without_one_that_has_its_other_settings(
    two_runs, compare, variant, tmp_path
):
    done = compare(two_runs.none, variant("other", optimizer__weight_decay=0.5), two_runs.layer)
    assert done.code == 0, done.err
    found = p_values(tmp_path)
    assert found.pop("none (optimizer.weight decay 0.0)") == "–"
    assert found.pop("none (optimizer.weight decay 0.5)") == "–"
    assert set(found) == {"layer"}
    assert "–" not in found.values()


def test_what_is_no_run_or_damaged_is_named(two_runs, compare, variant, tmp_path):
    assert "nothing: no such run" in compare(two_runs.none, tmp_path / "nothing").err
    damaged = variant("damaged")
    Run(damaged).results_file.write_text('{"norm": ')
    done = compare(damaged)
    assert done.code == 2
    assert "results.json: damaged" in done.err
    done = compare(two_runs.none, f"{two_runs.none}/")
    assert done.code == 2
    assert "a run is named twice" in done.err


def test_a_run_that_this_version_can_not_read_is_left_out(two_runs, compare, variant):
    old, damaged = variant("old"), variant("damaged")
    with Run(old).config_file.open("a") as file:
        file.write("a_setting_of_old: 3\n")
    Run(damaged).results_file.write_text('{"norm": ')
    done = compare(two_runs.none, two_runs.layer, old, damaged)
    assert (done.code, done.err) == (0, "")
    for name, reason in (
        ("old", "config.yaml: not a configuration of this program"),
        ("damaged", "results.json: damaged"),
    ):
        (note,) = [
            line for line in done.out.splitlines() if line.startswith(f"note: {name}: left out: ")
        ]
        assert reason in note


def test_what_is_not_compared_is_told_apart_in_every_table(two_runs, compare, variant, tmp_path):
    wide = variant("wide", model__hidden_size=64, experiment="convergence")
    done = compare(
        wide,
        *(variant(name, experiment="convergence", seed=seed) for seed, name in enumerate("abc", 1)),
    )
    row = next(
        row
        for row in csv.DictReader(io.StringIO((tmp_path / "out" / "results.csv").read_text()))
        if row["run"] == "wide"
    )
    assert row["status"] == "left out"
    assert row["left_out"].startswith("differs in more than what is compared: model.hidden_size=64")
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert page.texts["td"].count("left out") == 1
    assert "status" in done.out


def test_a_path_in_no_encoding_is_no_failure(two_runs, compare, tmp_path):
    odd = tmp_path / "odd\udcff"
    shutil.copytree(two_runs.none, odd)
    done = compare(odd, two_runs.layer)
    assert (done.code, done.err) == (0, "")
    assert "odd?" in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["report.html", "report.md", "results.csv"])
def test_no_file_of_ones_own_is_written_over(name, two_runs, compare, tmp_path):
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


# -- what tells runs apart ---


def test_what_else_differs_is_said_with_its_values(two_runs, compare, variant, tmp_path):
    folders = [
        two_runs.none,
        variant("b", optimizer__lr=0.5),
        variant("c", optimizer__lr=0.5, seed=2),
        variant("d", optimizer__lr=0.5, seed=3, results={"threads": 64}),
    ]
    done = compare(*folders)
    notes = [line for line in done.out.splitlines() if line.startswith("note: ")]
    assert notes == [
        "note: optimizer.lr differs: 0.02 in none-lstm-tiny-seed1, 0.5 in 3 runs",
        "note: threads differs: 1 in 3 runs, 64 in d",
    ]
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert [note.removeprefix("note: ") for note in notes] == page.texts["li"][-2:]


def test_another_corpus_is_another_section(two_runs, compare, variant, tmp_path):
    other = variant("b", data__name="other")
    done = compare(two_runs.none, other)
    assert done.code == 0, done.err
    assert [line.split()[:2] for line in done.out.splitlines() if line.startswith("none")] == [
        ["none,", "toy"],
        ["none,", "other"],
    ]
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert {"Runs (toy)", "Runs (other)"} <= set(page.texts["h2"])


def test_no_chart_is_written_over_another(two_runs, compare, variant, tmp_path):
    """Of an experiment, of runs without one, and of corpora whose names are alike in a file's
    name.
    """
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


def test_runs_of_one_name_from_other_folders(two_runs, variant):
    twins = [
        variant(f"{corpus}/none-lstm-tiny-seed1", data__name=corpus)
        for corpus in ("de_en", "en_zh")
    ]
    assert [r.name for r in read_runs(twins)[0]] == [
        "de_en/none-lstm-tiny-seed1",
        "en_zh/none-lstm-tiny-seed1",
    ]
    with pytest.raises(RunError, match="named twice"):
        read_runs([twins[0], twins[0]])


def test_curves_are_what_was_logged(two_runs):
    runs, _ = read_runs([str(two_runs.layer)])
    entries = [
        json.loads(line) for line in (two_runs.layer / "metrics.jsonl").read_text().splitlines()
    ]
    for kind, key in (("train", "nll"), ("valid", "loss"), ("valid", "bleu")):
        logged = [(e["seconds"], e[key]) for e in entries if e["kind"] == kind]
        assert list(zip(*runs[0].series(kind, key, "seconds"), strict=True)) == logged
    assert len([e for e in entries if e["kind"] == "train"]) == 40


def test_an_experiment_names_the_page(variant, compare, tmp_path):
    compare(variant("a", experiment="my_<rates>"), variant("b", "layer", experiment="my_<rates>"))
    html = (tmp_path / "out" / "report.html").read_text()
    assert Page(html).texts["h1"] == ["My <rates>: comparison of 2 runs"]
    assert "<rates>" not in html


def test_where_runs_were_trained_is_said_of_each_machine(two_runs, compare, variant, tmp_path):
    old, new = variant("old"), variant("new", seed=2, results={"processor": "Z80", "threads": 8})
    results = Run(old).results()
    del results["processor"]
    Run(old).results_file.write_text(json.dumps(results))
    done = compare(old, new)
    assert done.code == 0, done.err
    lines = (tmp_path / "out" / "report.md").read_text(encoding="utf-8").splitlines()
    assert [line.partition(", seq2seq")[0] for line in lines if line.startswith("Trained on ")] == [
        "Trained on cpu, 1 thread",
        "Trained on cpu, Z80, 8 threads",
    ]


def test_an_experiment_gets_its_verdict(variant, compare, tmp_path):
    folders = [
        variant(
            f"{norm}{seed}",
            norm,
            experiment="convergence",
            size="quick",
            seed=seed,
            trainer__max_updates=200,
            trainer__validate_every=66,
        )
        for norm in ("none", "layer")
        for seed in (1, 2, 3)
    ]
    done = compare(*folders)
    assert done.code == 0, done.err
    claim = statement("convergence").claim
    assert f": Convergence: {claim}" in done.out
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert "Verdicts" in page.texts["h2"]
    assert page.classes.count("reported") == 2  # BLEU and halfway are reported and do not decide
    assert claim in page.texts["dd"]
    assert "python train.py -m experiment=convergence size=quick" in page.texts["code"]
    tables, images = markdown((tmp_path / "out" / "report.md").read_text(encoding="utf-8"))
    short, verdict, norms, findings = tables
    assert [row[0] for row in short] == ["compared with none", "layer"]
    assert verdict[1][0] == f"Convergence: {claim}"
    assert verdict[1][1] in done.out
    assert [row[0] for row in norms[1:]] == ["none", "layer"]
    assert [row[0] for row in findings[1:]] == [
        cell for cell in page.texts["td"] if cell.startswith("layer ")
    ][-4:]
    assert images
    assert all((tmp_path / "out" / image).is_file() for image in images)


def test_help_teaches(script):
    done = script("compare")("--help")
    assert done.code == 0
    for part in ("--out DIR", "report.html", "results.csv", "outputs/grammar_en_zh/*"):
        assert part in done.out
