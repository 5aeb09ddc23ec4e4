"""The documentation: links, anchors, commands, settings, formulas, and the two languages."""

import argparse
import re
import runpy
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import pytest
from composing import composed, composed_settings
from markdown_it import MarkdownIt
from matplotlib.mathtext import MathTextParser
from omegaconf import open_dict

from seq2seq.app import composition
from seq2seq.app.typed import as_typed
from seq2seq.config import Config
from seq2seq.config.settings import CHANGEABLE, EXTENDABLE, NOT_SETTINGS

ROOT = Path(__file__).resolve().parents[1]
DOCS = {
    path.relative_to(ROOT / "docs").as_posix(): path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "docs").rglob("*.md"))
}
"""The text of each file, by its path below docs/."""
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
}
"""The text of every Markdown file, by its path."""
TRANSLATED = sorted(name for name in DOCS if name.replace(".md", ".zh.md") in DOCS)
EXPERIMENTS = sorted(
    path.stem
    for path in (ROOT / "configs" / "experiment").glob("*.yaml")
    if not path.stem.startswith("best_")
)
CJK = "\u2018-\u201d\u3000-\u303f\u3400-\u9fff\uff00-\uffef"
"""Chinese characters, full-width punctuation and quotation marks, for a regular expression."""


def pairs() -> list[tuple[str, str]]:
    """Return each text in English and in Chinese."""
    return [(DOCS[name], DOCS[name.replace(".md", ".zh.md")]) for name in TRANSLATED]


def blocks(text: str) -> list[str]:
    """Return the formulas with lines of their own."""
    return re.findall(r"^\$\$\n(.*?)\n\$\$$", text, re.M | re.S)


def prose(text: str) -> str:
    """Return a text without formulas on their own lines, commands and code."""
    text = re.sub(r"^\$\$\n.*?\n\$\$$|^ {4}[^\n]*$|^```.*?^```$", "", text, flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`", "", text)


def inline(text: str) -> list[str]:
    """Return the formulas inside lines."""
    return re.findall(r"\$([^$]+)\$", prose(text))


def headings(text: str) -> list[int]:
    """Return the levels of the headings."""
    return [len(marks) for marks in re.findall(r"^(#+) ", text, re.M)]


def images(text: str) -> list[str]:
    """Return the targets of images."""
    return re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)


def links(text: str) -> list[str]:
    """Return the targets of links, without anchors."""
    return re.findall(r"(?<!!)\[[^]]*\]\(([^)#]+)\)", text)


# -- two languages ---


def test_the_explainer_exists_in_two_languages() -> None:
    assert "normalization.md" in TRANSLATED


def test_both_languages_have_the_same_sections_formulas_and_images() -> None:
    for english, chinese in pairs():
        assert headings(english) == headings(chinese)
        assert Counter(blocks(english)) == Counter(blocks(chinese))
        assert set(inline(english)) == set(inline(chinese))
        assert images(english) == images(chinese)
        assert commands(english) == commands(chinese)
        assert [link for link in links(english) if "zh.md" not in link] == [
            link for link in links(chinese) if link not in TRANSLATED
        ]
        assert set(re.findall(r"`([^`]+)`", english)) == set(re.findall(r"`([^`]+)`", chinese))


def test_the_tables_of_both_languages_agree_cell_by_cell() -> None:
    words = {"变": "changes", "不变": "same"}
    for english, chinese in pairs():
        rows = [
            [re.findall(r"[^|]+", line) for line in text.splitlines() if line.startswith("|")]
            for text in (english, chinese)
        ]
        assert [len(row) for row in rows[0]] == [len(row) for row in rows[1]]
        for one, other in zip(*rows, strict=True):
            for a, b in zip(one[1:], other[1:], strict=True):
                assert b.strip() not in words or words[b.strip()] == a.strip()


def test_each_language_links_to_the_other() -> None:
    for name in TRANSLATED:
        chinese = name.replace(".md", ".zh.md")
        assert f"]({chinese})" in DOCS[name]
        assert f"]({name})" in DOCS[chinese]


def test_the_invariances_are_those_that_the_probe_checks() -> None:
    from seq2seq.probes.invariance import CHANGES, UNCHANGED
    from seq2seq.report.experiments.invariance import CHANGES as IN_WORDS

    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in DOCS["normalization.md"].splitlines()
        if line.startswith("|")
    ]
    norms, found = rows[0][1:], rows[2:]
    assert norms == ["none", "batch", "layer", "rms"]
    assert list(IN_WORDS.items()) == [
        (change, row[0]) for change, row in zip(CHANGES, found, strict=True)
    ]
    for change, (_, *cells) in zip(CHANGES, found, strict=True):
        assert cells == [
            "same" if change in UNCHANGED[norm, False] else "changes" for norm in norms
        ]


# -- experiments ---


@pytest.mark.parametrize("name", ["normalization.md", "normalization.zh.md"])
def test_every_experiment_has_a_section_its_commands_its_result_and_figures(name: str) -> None:
    sections = [
        part for part in re.split(r"^###? ", DOCS[name], flags=re.M) if "<!-- result: " in part
    ]
    found = []
    for section in sections:
        (experiment,) = re.findall(r"^<!-- result: (\w+) -->\n.[^#]*\(results\.md\)", section, re.M)
        assert (
            f"\n    python train.py -m experiment={experiment} size=quick\n    python"
            f" scripts/compare.py outputs/*/*experiment={experiment},*size=quick* --out"
            " comparison\n" in section
        )
        assert [image for image in images(section) if image.startswith("results/")]
        found.append(experiment)
    assert sorted(found) == EXPERIMENTS


# -- how GitHub renders it ---


def test_formulas_after_commands_and_code_are_found() -> None:
    assert inline("$a$\n\n    echo $b$\n\n$c$ and `$d$`\n\n$$\ne\n$$\n\n$f$\n") == ["a", "c", "f"]


@pytest.mark.parametrize("name", DOCS)
def test_display_formulas_are_between_blank_lines(name: str) -> None:
    lines = ["", *DOCS[name].splitlines(), ""]
    marks = [i for i, line in enumerate(lines) if "$$" in line]
    assert len(marks) == 2 * len(blocks(DOCS[name]))
    for start, end in zip(marks[::2], marks[1::2], strict=True):
        assert (lines[start], lines[end]) == ("$$", "$$")
        assert end == start + 2
        assert lines[start - 1] == lines[end + 1] == ""


@pytest.mark.parametrize("name", DOCS)
def test_formulas_contain_nothing_that_looks_like_markdown(name: str) -> None:
    parser = MathTextParser("path")
    for formula in [*blocks(DOCS[name]), *inline(DOCS[name])]:
        parser.parse(f"${formula}$")
        assert "\n" not in formula
        assert not re.search(r"\\[^a-zA-Z]", formula), f"{formula}: Markdown takes the backslash"
        assert not re.search(r"[^\w]_|\*|<|`|]\(", formula), (
            f"{formula}: Markdown may see emphasis, tag, code or link"
        )
        assert formula == formula.strip()


@pytest.mark.parametrize("name", DOCS)
def test_inline_formulas_are_separated_from_letters(name: str) -> None:
    text = prose(DOCS[name])
    assert text.count("$") == 2 * len(inline(DOCS[name]))
    for before, formula, after in re.findall(
        r"(?<=(.))(\$[^$]+\$)(?=(.))", text.replace("\n", " ")
    ):
        assert not re.match(rf"[\w{CJK}]", before), before + formula
        assert not re.match(rf"[\w{CJK}]", after), formula + after


@pytest.mark.parametrize("name", [name for name in DOCS if name.endswith(".zh.md")])
def test_a_chinese_paragraph_is_one_line(name: str) -> None:
    """The end of a line would show as a space between two characters."""
    assert not re.search(rf"[{CJK}]\n *[{CJK}]", DOCS[name])


# -- what is named ---


def commands(text: str) -> list[str]:
    """Return the commands in backticks or indented, without comments."""
    found = re.findall(r"`(python [^`]+)`", text) + re.findall(r"^ {4}(python .*)$", text, re.M)
    return sorted(command.partition(" #")[0].strip() for command in found)


ALL = sorted({command for text in DOCS.values() for command in commands(text)})


def parsed_links(text: str) -> list[str]:
    """Return the targets of links and images as a Markdown parser finds them."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
    inside = [child for token in tokens for child in token.children or []]
    return [str(t.attrs[key]) for t in inside for key in ("href", "src") if key in t.attrs]


def anchors(text: str) -> Iterator[str]:
    """Return the anchors that GitHub gives to the headings of a text."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
    titles = [
        "".join(child.content for child in token.children or [] if child.type != "image")
        for before, token in pairwise(tokens)
        if before.type == "heading_open"
    ]
    found = Counter[str]()
    for title in titles:
        anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        yield f"{anchor}-{found[anchor]}" if found[anchor] else anchor
        found[anchor] += 1


def test_links_and_anchors_are_found() -> None:
    assert parsed_links("[a](b.md#c) ![d](e.png)\n\n`[f](g)`\n\n| x |\n| --- |\n| [h](i) |\n") == [
        "b.md#c",
        "e.png",
        "i",
    ]
    assert list(anchors("# What `x` is, in short\n\n## A b\n\n## A b\n")) == [
        "what-x-is-in-short",
        "a-b",
        "a-b-1",
    ]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_an_anchor(page: str) -> None:
    for target in parsed_links(PAGES[page]):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = ((ROOT / page).parent / file).resolve() if file else ROOT / page
        assert path.exists(), target
        assert path.is_relative_to(ROOT), target
        if anchor:
            assert path.suffix == ".md", target
            assert anchor in anchors(path.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("start", ["README.md", "docs/index.md"])
def test_every_document_can_be_reached_by_links(start: str) -> None:
    reached, left = set(), [start]
    while left:
        page = left.pop()
        reached.add(page)
        for target in parsed_links(PAGES[page]):
            path = ((ROOT / page).parent / target.partition("#")[0]).resolve()
            name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
            if name in PAGES and name not in reached:
                left.append(name)
    assert {f"docs/{name}" for name in DOCS} - {"docs/index.md"} <= reached


def test_every_picture_is_shown_somewhere() -> None:
    shown = {
        ((ROOT / page).parent / target).resolve()
        for page, text in PAGES.items()
        for target in parsed_links(text)
    }
    assert set((ROOT / "docs").rglob("*.png")) <= shown


@cache
def swept_settings(*overrides: str) -> tuple[str, ...]:
    """Compose these settings and check them; return those that they sweep over."""
    cfg = composed_settings(*overrides, hydra=True)
    swept = tuple(cfg.hydra.sweeper.params or ())
    with open_dict(cfg):
        del cfg["hydra"]
    assert isinstance(composition.composed(cfg), Config)
    return swept


@pytest.mark.parametrize(
    "command", [command for command in ALL if command.startswith("python train.py")]
)
def test_every_training_command_composes(command: str) -> None:
    """Each value of a sweep is composed once, with the first value of the other settings."""
    words = shlex.split(command)[2:]
    words = as_typed(words, sweep="-m" in words)
    values = {word.partition("=")[0]: word.partition("=")[2] for word in words if "=" in word}
    several = {key: value for key, value in values.items() if "," in value and value[0] != "'"}
    sweeps = {key: value.split(",") for key, value in several.items()}
    assert not sweeps or "-m" in words
    first = values | {key: found[0] for key, found in sweeps.items()}
    jobs = [first | {key: value} for key, found in sweeps.items() for value in found] or [first]
    for job in jobs:
        swept = swept_settings(*(f"{key}={value}" for key, value in job.items()))
        assert ("-m" in words) == bool(swept or sweeps)


@pytest.mark.parametrize(
    "command", [c for c in ALL if c.startswith("python scripts/prepare_data.py")]
)
def test_every_preparation_command_composes(command: str) -> None:
    assert isinstance(composed(*shlex.split(command)[2:], name="prepare_data"), Config)


@pytest.mark.parametrize(
    "command",
    [c for c in ALL if re.match(r"python scripts/(?!prepare_data)", c)],
)
def test_every_script_named_takes_these_arguments(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each script runs until it has read its arguments."""
    _, script, *arguments = shlex.split(re.split(r" [<>|] ", command)[0])

    class Parsed(Exception):
        pass

    parse = argparse.ArgumentParser.parse_args

    def parse_and_stop(parser: argparse.ArgumentParser, *given: Any) -> NoReturn:
        parse(parser, *given)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    with pytest.raises(Parsed):
        runpy.run_path(str(ROOT / script), run_name="__main__")


def test_the_commands_are_found() -> None:
    found = {re.search(r"^python train\.py -m experiment=(\w+)", command) for command in ALL}
    assert {match[1] for match in found if match} >= set(EXPERIMENTS)
    assert any(command.startswith("python scripts/benchmark.py") for command in ALL)


def test_the_settings_that_a_resumed_run_takes_are_listed() -> None:
    _, table, _ = re.split(
        r"^`resume=RUN` keeps the settings of RUN[^|]*|^So a run can be trained longer",
        DOCS["commands.md"],
        flags=re.M,
    )
    listed = re.findall(r"`([\w.]+)`", table)
    assert sorted(listed) == sorted({*CHANGEABLE, *EXTENDABLE} - NOT_SETTINGS.keys())


def test_every_setting_named_exists() -> None:
    """Settings are written like `norm.min_rows`, `norm.terms=joint` and `norm=batch_shared`."""
    named = set(re.findall(r"`((?:norm|size|trainer)[.\w]*)(=\w+)?`", "".join(DOCS.values())))
    assert {("norm.min_rows", ""), ("norm.terms", "=joint"), ("norm", "=batch_shared")} <= named
    plain = composed_settings()
    for key, value in named:
        group, _, setting = key.partition(".")
        assert group in plain, key
        assert not setting or setting in plain[group], key
        if value:
            of_batch = ["norm=batch"] * (key in ("norm.statistics", "norm.sync"))
            assert composed(*of_batch, key + value)
