"""What is shown is what was written, in every place that shows text."""

import html
import json
import logging
import re
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from markdown_it import MarkdownIt
from rich.table import Table

from seq2seq.app import evaluation_table, prepare
from seq2seq.app.arguments import parser
from seq2seq.app.exit_codes import fail
from seq2seq.app.options import console
from seq2seq.app.translate import as_json, shown
from seq2seq.config import Config, DataConfig
from seq2seq.figures import attention_figure, rendered
from seq2seq.report.charts import Chart, Line, Panel
from seq2seq.report.templates import rendered_template
from seq2seq.report.texts import texts
from seq2seq.report.vega import Drawing, page_spec
from seq2seq.runs.examples import WorkedExample, read_examples, write_examples
from seq2seq.runs.folder import Run
from seq2seq.runs.logbook import Logbook
from seq2seq.shown import (
    LONGEST,
    are,
    as_message,
    brief,
    counted,
    escaped,
    failed_job,
    json_line,
    markdown,
)
from seq2seq.translation.lines import Translation

NASTY = [
    "[bold]red[/bold]",
    "[/] [/nothing]",
    ":smile: [link=x]y[/link]",
    "a|b || c",
    "*one* **two** _three_ a_b_c __d__ ~~e~~",
    "`code` ``more`` \\` \\| \\\\",
    "# not a heading #",
    "![x](y) [x](y) <http://z>",
    "<script>alert('1')</script> <!--<script> &amp; &lt; \"quoted\"",
    "$x_1$ \\frac $$ a^2 {b}",
    "\x1b[31mred\x1b]0;title\x07",
    "before\rafter\nnext\ttab",
    "one\u2028two\u2029three\x85four\x00",
    "שלום (עולם) 123 مرحبا",
    "%s {0} {{ x }} {% y %}",
    "'=1+1' \"quoted\", comma; -x",
    "日本語 한국어 ไทย",
]
every_text = pytest.mark.parametrize("text", NASTY, ids=ascii)
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def unescaped(text: str) -> str:
    """Return what `escaped` has been given, for texts without such codes of their own."""
    return re.sub(r"\\(x..|u....|[rnt])", lambda m: json.loads(f'"{as_json_code(m[1])}"'), text)


def as_json_code(code: str) -> str:
    return "\\u00" + code[1:] if code.startswith("x") else "\\" + code


# -- the functions ---


@every_text
def test_no_control_character_is_left_and_nothing_else_changes(text: str) -> None:
    found = escaped(text)
    assert not CONTROL.search(found)
    assert "\n" not in found
    if "\\" not in text:
        assert unescaped(found) == text
    assert escaped(found) == found


@every_text
def test_json_is_one_line_of_real_characters(text: str) -> None:
    line = json_line({"text": text})
    assert json.loads(line) == {"text": text}
    assert len(line.splitlines()) == 1
    assert not CONTROL.search(line)
    assert "한" not in text or "한" in line


def test_a_long_value_loses_its_middle() -> None:
    assert brief("a" * 60) == "a" * 60
    found = brief("start" + "x" * 10_000 + "end")
    assert len(found) == 60
    assert re.fullmatch("startx+…x+end", found)
    assert len(brief("x" * 100, 10)) == 10


def test_a_number_has_its_noun_in_singular_or_plural() -> None:
    assert [counted(n, "pair") for n in (0, 1, 2000)] == ["0 pairs", "1 pair", "2,000 pairs"]
    assert [counted(n, "hour", ".2g") for n in (0.999, 1.04, 1.5)] == [
        "1 hour", "1 hour", "1.5 hours",
    ]  # fmt: skip
    assert [are(n) for n in (0, 1, 2)] == ["are", "is", "are"]


def test_a_message_of_many_words_loses_its_middle() -> None:
    short = "ab " * (LONGEST // 3)
    assert as_message(short) == short.strip()
    found = as_message("start " + "word " * 20_000 + "end")
    assert len(found) == LONGEST
    assert found.startswith("start word")
    assert found.endswith("word end")
    assert " [...] " in found


def test_a_long_value_of_a_message_is_cut_before_its_key_and_the_way_out() -> None:
    way_out = "expected false, the default: another value has an effect only with data.origin=files"
    found = as_message(f"data.train.source={'x' * 10_000}: {way_out}")
    assert re.fullmatch(f"data.train.source=x+…x+:? {re.escape(way_out)}", found)
    assert len(found) <= LONGEST


def test_the_folders_of_a_path_do_not_count() -> None:
    folders = "/".join(["", *["folder"] * 100, ""])
    message = f"data.name=x: no such file in {folders}a.de or '{folders}a.en'; expected text"
    assert as_message(message) == message
    words = "word " * 38
    cut = as_message(f"{folders}a.de: {words}: {folders}b.de: the end")
    assert cut.startswith(f"{folders}a.de: word word")
    assert cut.endswith(f"{folders}b.de: the end")
    assert " [...] " in cut


def test_a_failed_job_is_named_by_its_last_overrides() -> None:
    many = " ".join(f"data.key{i}=1" for i in range(50)) + " norm=batch seed=3"
    found = failed_job(many, "seed=3: expected 2")
    assert len(found) == LONGEST
    assert found.startswith("failed: …")
    assert found.endswith("data.key49=1 norm=batch seed=3: seed=3: expected 2")
    assert failed_job("seed=3", "bad") == "failed: seed=3: bad"
    stopped = "diverged: update 3: loss nan: not finite; try a lower optimizer.lr"
    assert failed_job("seed=3", stopped) == "diverged: seed=3: update 3: loss nan: not finite"
    assert "norm=batch seed=3: word" in failed_job(many, "word " * 20)


def test_a_message_is_one_line_without_acting_characters() -> None:
    assert as_message(" one\n  two\x1b\n") == r"one two\x1b"


def test_a_name_is_cut_where_nothing_else_makes_a_message_short() -> None:
    run = "layer-lstm-tiny-seed1," + ",".join(f"optimizer.lr=0.00{i}" for i in range(9))
    found = as_message(f"outputs/{run}: holds another run; overwrite=true replaces it: expected x")
    assert len(run) > 180
    assert found.startswith("outputs/layer-lstm-tiny-seed1,")
    assert found.endswith(": holds another run; overwrite=true replaces it: expected x")


# -- Markdown ---


def tensorboard_page(text: str) -> str:
    """Return Markdown as TensorBoard shows it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the packages that it imports
        from tensorboard.plugin_util import markdown_to_safe_html
    return str(markdown_to_safe_html(text))


class Cells(HTMLParser):
    """The texts of a page's table cells."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.cells: list[str] = []
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag in ("table", "thead", "tbody", "tr", "th", "td", "p")
        self.inside = tag == "td"
        self.cells += [""] * self.inside

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.cells[-1] += data


@every_text
def test_a_markdown_table_shows_the_text(text: str) -> None:
    table = f"| a | b |\n| --- | --- |\n| {markdown(text)} | {markdown(text)} |"
    pages = (
        MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(table),
        tensorboard_page(table),
    )
    for page in pages:
        assert [cell.strip() for cell in Cells(page).cells] == [escaped(text).strip()] * 2


@every_text
def test_a_markdown_heading_and_a_list_show_the_text(text: str) -> None:
    page = MarkdownIt("commonmark").render(f"## {markdown(text)}\n\n- Note: {markdown(text)}\n")
    parts = re.fullmatch(r"<h2>(.*)</h2>\n<ul>\n<li>Note: (.*)</li>\n</ul>\n", page)
    assert parts
    assert [html.unescape(part) for part in parts.groups()] == [escaped(text).strip()] * 2


# -- the terminal ---


@every_text
def test_a_table_at_the_terminal_shows_the_text(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Table(title="x")
    table.add_column("y")
    table.add_row(escaped(text))
    console().print(table)
    assert escaped(text) in capsys.readouterr().out


@every_text
def test_the_table_of_scores_shows_the_run_and_the_file(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"run": text, "bleu": 1.0, "chrf": 2.0, "bleu_signature": "b", "chrf_signature": "c"}
    results = {"test_set": text, "sentences": 1, "runs": [row], "remarks": [text]}
    how = {"lowercase": False, "references": [text], "tokenizer": "13a", "sacrebleu": [text]}
    evaluation_table.show(results | how, is_saved=True)
    out = capsys.readouterr().out
    assert out.count(escaped(text)) == 4
    assert not CONTROL.search(out)


@every_text
def test_an_error_shows_the_value(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    for error in (ValueError(f"{text}: expected a number"), FileNotFoundError(2, "no", text)):
        fail(error, 2)
        shown = capsys.readouterr().err
        assert not CONTROL.search(shown)
        assert shown.count("\n") == 1
        if "\n" not in text:
            assert escaped(text) in shown


@every_text
def test_a_wrong_option_is_shown(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = parser(None)
    command.add_argument("--beam", type=int)
    with pytest.raises(SystemExit):
        command.parse_args(["--beam", "=" + text])
    err = capsys.readouterr().err
    assert not CONTROL.search(err)


def translated(text: str) -> Translation:
    return Translation(text, -1.5, ["▁a", text], [text], None, -3.0, 2)


@every_text
def test_translations_are_printed_as_they_are_but_not_to_a_terminal(
    text: str,
) -> None:
    assert [*shown([translated(text)], 1, scores=False, is_seen=False)] == [text]
    assert [*shown([translated(text)], 1, scores=False, is_seen=True)] == [escaped(text)]


@every_text
def test_json_lines_hold_the_text(text: str) -> None:
    found = json.loads(as_json(3, text, [translated(text)]))
    assert found["source"] == text
    assert found["translations"][0]["text"] == text
    assert found["translations"][0]["pieces"] == [text]


@every_text
def test_the_example_of_prepare_shows_the_text(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    class Whole:
        """A tokenizer whose only piece is the text."""

        vocab_size, eos_id = 5, 3

        def encode(self, line: str) -> list[int]:
            return [4]

        def pieces(self, line: str) -> list[str]:
            return [line]

        def decode(self, ids: list[int]) -> str:
            return text

    prepare.show_example(text, Whole(), 4)  # type: ignore[arg-type]
    out = capsys.readouterr().out
    assert out.count(escaped(text)) == 3
    assert not CONTROL.search(out)


@every_text
def test_a_line_above_the_progress_bar_shows_the_text(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Logbook(tmp_path, 0, progress=True) as logbook:
        logbook.say(text)
    assert escaped(text) in capsys.readouterr().out


# -- figures and the page ---


@every_text
def test_an_attention_map_shows_the_text(text: str, caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings(), caplog.at_level(logging.CRITICAL):
        warnings.simplefilter("error")
        figure = attention_figure(np.eye(1), [text[:20]], [text[:20]])
        rendered(figure, "png")
        rendered(figure, "svg")
    (label,) = figure.axes[0].get_xticklabels()
    if text.isascii() and len(escaped(text[:20])) <= 24:
        assert label.get_text() == escaped(text[:20]).strip()


@every_text
def test_a_chart_shows_the_text_and_cannot_end_the_script(text: str) -> None:
    line = Line(text, "layer", 0, [0.0, 1.0], [1.0, 2.0])
    drawing = Drawing(Chart("chart", text, "", [Panel(text, "x", "y", [line])]), "chart")
    assert "<" not in drawing.json
    assert json.loads(drawing.json) == json.loads(json.dumps([page_spec(drawing.chart.panels[0])]))
    shown = html.unescape(drawing.svg.decode())
    assert escaped(text) in shown
    assert drawing.pictures["png"].startswith(b"\x89PNG")


@every_text
def test_the_page_shows_the_text(text: str) -> None:
    content = page_of(text, WorkedExample(0, text, text, text))
    page = rendered_template("page.html.jinja", content)
    found = re.findall(r'<(?:dd|li) dir="auto">(.*?)</(?:dd|li)>', page, re.DOTALL)
    lines = "\n".join(map(escaped, text.split("\n")))
    assert [html.unescape(shown) for shown in found] == [lines] * 4
    assert (
        f"<h1>{html.escape(lines).replace('&#x27;', '&#39;')}</h1>".replace("&quot;", "&#34;")
        in page
    )
    shown = rendered_template("page.md.jinja", content)
    assert f"# {markdown(text)}\n" in shown
    assert f"- Note: {markdown(text)}\n" in shown


@every_text
def test_an_attention_map_of_the_page_shows_the_text(text: str) -> None:
    piece = text[:4]
    example = WorkedExample(0, text, text, text, [piece, "</s>"], [piece], [[0.25, 0.75]])
    page = rendered_template("page.html.jinja", page_of(text, example))
    label = escaped(piece.replace("▁", " ").strip(" ")) or "␣"
    found = re.findall(r"<bdi>(.*?)</bdi>", page, re.DOTALL)
    assert [html.unescape(shown) for shown in found] == [label, "</s>", label]
    titles = re.findall(r'<td style="background:#[0-9a-f]{6}" title="(.*?)"></td>', page, re.DOTALL)
    shown = [html.unescape(title) for title in titles]
    assert shown == [f"{label} ← {label}: 0.25", f"{label} ← </s>: 0.75"]


def page_of(text: str, example: WorkedExample) -> dict[str, Any]:
    """Return the content of a page without runs that shows a text and an example."""
    content: dict[str, Any] = dict.fromkeys(("norms", "date", "writer", "javascript"), "")
    empty = ("overview", "sections", "columns", "runs", "commands", "trained_on", "signatures")
    content |= {key: [] for key in empty}
    content |= {"title": text, "notes": [text], "examples": [{text: example}], "diagrams": {}}
    return content | {"words": {}, "text": texts()}


# -- files ---


@every_text
def test_stored_text_is_read_back(text: str, tmp_path: Path) -> None:
    write_examples(tmp_path, [WorkedExample(0, text, text, text, [text], [text])])
    (example,) = read_examples(tmp_path)
    assert (example.source, example.translation, example.target_pieces) == (text, text, [text])
    if "\x00" in text:
        return  # no name has it
    run = Run(tmp_path / "run")
    config = Config(data=DataConfig(name="toy", mirror=text))
    run.folder.mkdir()
    run.save_config(config)
    assert run.config().data.mirror == text
    assert yaml.safe_load((run.folder / "config.yaml").read_text("utf-8"))["data"]["mirror"] == text
