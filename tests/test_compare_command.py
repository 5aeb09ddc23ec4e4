"""scripts/compare.py as a user runs it: the table, the curves, the page, and what differs between runs."""

import base64
import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.colors import to_hex
from matplotlib.image import imread

from seq2seq.figures import NORM_COLOURS
from seq2seq.report import COLUMNS, caveats, curves, labels, read_runs
from seq2seq.run import Run, RunError

pytest_plugins = ["run_fixtures"]


@pytest.fixture
def compare(script, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    command = script("compare")
    return lambda *arguments: command(*arguments, "--out", tmp_path / "out")


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
        self.texts, self.images, self.open = {}, [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.images.append(dict(attributes))
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts[self.open[-1]][-1] += data


# -- what is written -------------------------------------------------------------------------------------------------


def test_a_table_a_picture_and_a_page(two_runs, compare, tmp_path):
    done = compare(two_runs.none, two_runs.layer)
    assert (done.code, done.err) == (0, "")
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == ["curves.png", "report.html", "results.csv"]
    results = {norm: Run(getattr(two_runs, norm)).results() for norm in ("none", "layer")}

    rows = list(csv.DictReader(io.StringIO((out / "results.csv").read_text())))
    assert list(rows[0]) == list(COLUMNS)
    for row, (norm, r) in zip(rows, results.items(), strict=True):
        assert (row["run"], row["norm"], row["seed"]) == (f"{norm}-lstm-tiny-seed1", norm, "1")
        expected = {"test_bleu": r["test"]["bleu"], "test_chrf": r["test"]["chrf"], "valid_bleu": r["valid"]["bleu"],
                    "valid_loss": r["valid_loss"], "update": r["update"], "parameters": r["parameters"],
                    "tokens_per_second": r["tokens_per_second"], "minutes": r["wall_seconds"] / 60}
        assert {key: float(row[key]) for key in expected} == pytest.approx(expected)

    shown = [line.split() for line in done.out.splitlines()]
    for row in rows:
        cells = [row["norm"], *(f"{float(row[key]):,.{n}f}" for key, n in (
            ("test_bleu", 1), ("test_chrf", 1), ("valid_bleu", 1), ("valid_loss", 3), ("update", 0),
            ("tokens_per_second", 0), ("minutes", 1), ("parameters", 0)))]
        assert cells in shown

    page = Page((out / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert page.texts["h1"] == page.texts["title"] == ["Comparison of 2 runs"]
    assert page.texts["th"] == list(COLUMNS.values())
    assert page.texts["td"][0] == "none-lstm-tiny-seed1"
    assert page.texts["td"][3] == f"{results['none']['test']['bleu']:.1f}"
    assert results["none"]["test"]["bleu_signature"] in page.texts["code"]
    assert any(text.startswith("python ") and "compare.py" in text for text in page.texts["code"])
    image, = page.images
    assert "validation BLEU" in image["alt"]
    assert base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) == (out / "curves.png").read_bytes()
    height, width, _ = imread(out / "curves.png").shape
    assert width > 2 * height > 800


def test_the_page_stands_alone(two_runs, compare, tmp_path):
    compare(two_runs.none, two_runs.layer)
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|<script|<link", html)
    for part in ('<meta charset="utf-8">', "width=device-width", "color-scheme: light dark", "overflow-x: auto",
                 "prefers-color-scheme: dark"):
        assert part in html


def test_the_table_fits_eighty_columns(two_runs, compare, variant):
    done = compare(two_runs.none, two_runs.layer, variant("b", seed=2), variant("c", "layer", seed=2))
    table = done.out[:done.out.index("note: ")].splitlines()
    assert len(table) == 7
    assert max(map(len, table)) <= 80


def test_where_the_curves_are_live(two_runs, compare, variant):
    parent = two_runs.none.parent
    shown = compare(two_runs.none, two_runs.layer).out.splitlines()[-1]
    folder = shown.partition("--logdir ")[2]
    assert Path(folder).resolve() == parent
    folder = compare(two_runs.none).out.splitlines()[-1].partition("--logdir ")[2]
    assert Path(folder).resolve() == two_runs.none


# -- odd runs --------------------------------------------------------------------------------------------------------


def test_a_run_without_a_test_set(two_runs, compare, variant, tmp_path):
    lone = variant("lone")
    results = Run(lone).results()
    del results["test"]
    Run(lone).results_file.write_text(json.dumps(results))
    done = compare(lone, two_runs.layer)
    assert done.code == 0, done.err
    row = next(line.split() for line in done.out.splitlines() if line.startswith("none"))
    assert row[1:3] == ["–", "–"]
    assert row[3] == f"{results['valid']['bleu']:.1f}"
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out" / "results.csv").read_text())))
    assert rows[0]["test_bleu"] == rows[0]["test_chrf"] == ""
    assert results["valid"]["bleu_signature"] in (tmp_path / "out" / "report.html").read_text()


def test_a_run_without_metrics(two_runs, compare, variant):
    bare = variant("bare")
    Run(bare).metrics_file.unlink()
    done = compare(bare, two_runs.layer)
    assert done.code == 0, done.err
    assert "note: bare: metrics.jsonl is missing or empty, so it has no curves" in done.out.splitlines()
    assert "no curves" not in compare(two_runs.none, two_runs.layer).out


def test_an_unfinished_run_is_refused_with_what_goes_on(two_runs, compare, variant, tmp_path):
    begun = variant("begun")
    Run(begun).results_file.unlink()
    done = compare(two_runs.none, begun)
    assert (done.code, done.out) == (2, "")
    assert done.err == (f"compare.py: {begun}: has not finished (no results.json); go on with: python train.py "
                        f"resume={begun}\n")
    assert not (tmp_path / "out").exists()


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


# -- what tells runs apart -------------------------------------------------------------------------------------------


def test_runs_that_differ_in_norm_and_seed_alone_need_no_note(two_runs, compare, variant):
    folders = [str(two_runs.none), variant("b", trainer__max_updates=200, trainer__validate_every=66)]
    assert len(caveats(read_runs(folders))) == 2
    folders = [str(two_runs.layer), variant("c", trainer__max_updates=200, trainer__validate_every=66, seed=7,
                                            norm__gain=2.0, trainer__threads=3, experiment="x",
                                            data__mirror="m", data__root="r")]
    assert caveats(read_runs(folders)) == []


def test_what_else_differs_is_said_with_its_values(two_runs, compare, variant, tmp_path):
    folders = [two_runs.none, variant("b", optimizer__lr=0.5), variant("c", optimizer__lr=0.5),
               variant("d", optimizer__lr=0.5, results={"threads": 64})]
    done = compare(*folders)
    notes = [line for line in done.out.splitlines() if line.startswith("note: ")]
    assert notes == ["note: optimizer.lr differs: 0.02 in none-lstm-tiny-seed1, 0.5 in 3 runs",
                     "note: threads differs: 1 in 3 runs, 64 in d"]
    page = Page((tmp_path / "out" / "report.html").read_text(encoding="utf-8"))
    assert page.texts["li"] == [note.removeprefix("note: ") for note in notes]


def test_another_corpus_is_one_note(two_runs, variant):
    other = variant("b", data__name="other", data__target_language="de", data__root="elsewhere")
    assert caveats(read_runs([str(two_runs.none), other])) == [
        "data.name differs: toy in none-lstm-tiny-seed1, other in b"]
    same = variant("c", data__max_length=50)
    assert caveats(read_runs([str(two_runs.none), same])) == [
        "data.max_length differs: 100 in none-lstm-tiny-seed1, 50 in c"]


def test_runs_of_one_name_from_other_folders(two_runs, compare, variant, tmp_path):
    twins = [variant(f"{corpus}/none-lstm-tiny-seed1", data__name=corpus) for corpus in ("de_en", "en_zh")]
    runs = read_runs(twins)
    assert [r.name for r in runs] == ["de_en/none-lstm-tiny-seed1", "en_zh/none-lstm-tiny-seed1"]
    assert labels(runs) == [r.name for r in runs]
    assert len(curves(runs).axes[0].lines) == 2
    assert ("note: data.name differs: de_en in de_en/none-lstm-tiny-seed1, en_zh in en_zh/none-lstm-tiny-seed1"
            in compare(*twins).out)
    with pytest.raises(RunError, match="named twice"):
        read_runs([twins[0], twins[0]])


def test_a_run_is_called_by_its_norm_where_that_is_enough(two_runs, variant):
    one, other = str(two_runs.none), str(two_runs.layer)
    assert labels(read_runs([one, other])) == ["none", "layer"]
    assert labels(read_runs([one, other, variant("b", seed=2)])) == ["none, seed 1", "layer, seed 1", "none, seed 2"]
    assert labels(read_runs([one, variant("c")])) == ["none-lstm-tiny-seed1", "c"]


def test_each_norm_has_its_colour_and_each_seed_its_style(variant):
    runs = read_runs([variant(f"{norm}{seed}", norm, seed=seed) for norm in ("none", "layer") for seed in (1, 2, 5)])
    figure = curves(runs)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["training loss (nats/token)", "validation loss (nats/token)", "validation BLEU (greedy)"]
    for axes in figure.axes:
        looks = [(to_hex(line.get_color()).upper(), line.get_linestyle()) for line in axes.lines]
        assert len(set(looks)) == 6
        assert [colour for colour, _ in looks] == [NORM_COLOURS["none"]] * 3 + [NORM_COLOURS["layer"]] * 3
        assert [style for _, style in looks[:3]] == [style for _, style in looks[3:]]
    legend, = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == labels(runs)


def test_one_seed_has_one_style_also_where_a_norm_lacks_it(variant):
    runs = read_runs([variant("a", seed=1), variant("b", seed=2), variant("c", "layer", seed=2)])
    lines = curves(runs).axes[0].lines
    assert lines[1].get_linestyle() == lines[2].get_linestyle() != lines[0].get_linestyle()


def test_many_runs_of_one_norm_can_be_told_apart(variant):
    runs = read_runs([variant(f"run{i}", optimizer__lr=i + 1.0) for i in range(10)])
    looks = {(line.get_linestyle(), line.get_marker()) for line in curves(runs).axes[0].lines}
    assert len(looks) == 10


def test_curves_are_what_was_logged(two_runs):
    run, = read_runs([str(two_runs.layer)])
    entries = [json.loads(line) for line in (two_runs.layer / "metrics.jsonl").read_text().splitlines()]
    training, loss, bleu = (axes.lines[0] for axes in curves([run]).axes)
    logged = [(e["update"], e["loss"]) for e in entries if e["kind"] == "train"]
    assert list(zip(*training.get_data(), strict=True)) == logged
    for line, key in ((loss, "loss"), (bleu, "bleu")):
        valid = [(e["update"], e[key]) for e in entries if e["kind"] == "valid"]
        assert list(zip(*line.get_data(), strict=True)) == valid
    assert len(logged) == 40


def test_an_experiment_names_the_page(variant, compare, tmp_path):
    compare(variant("a", experiment="<rates>"), variant("b", "layer", experiment="<rates>"))
    html = (tmp_path / "out" / "report.html").read_text()
    assert Page(html).texts["h1"] == ["<rates>: comparison of 2 runs"]
    assert "<rates>" not in html


def test_help_teaches(script):
    done = script("compare")("--help")
    assert done.code == 0
    for part in ("--out DIR", "report.html", "results.csv", "outputs/grammar_en_zh/*"):
        assert part in done.out
