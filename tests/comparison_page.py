"""Readers of the files that scripts/compare.py writes."""

from html.parser import HTMLParser
from pathlib import Path

from markdown_it import MarkdownIt


def markdown(text: str) -> tuple[list[list[list[str]]], list[str]]:
    """Return the tables of a text, each a list of rows of cells, and the files of its images."""
    tables: list[list[list[str]]] = []
    images: list[str] = []
    in_cell = False
    for token in MarkdownIt().enable("table").parse(text):
        children = token.children or []
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type == "inline":
            images += [str(child.attrs["src"]) for child in children if child.type == "image"]
            if in_cell:
                tables[-1][-1].append("".join(child.content for child in children))
        in_cell = token.type in ("td_open", "th_open")
    return tables, images


def p_values(folder: Path) -> dict[str, str]:
    """Return the p-values of each norm, from the report's table of norms."""
    table = markdown((folder / "out" / "report.md").read_text(encoding="utf-8"))[0][1]
    place = table[0].index("p against none, by seed")
    return {row[0]: row[place] for row in table[1:]}


class Page(HTMLParser):
    """The content of a page: texts by kind of element, images, classes, and attention maps."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: dict[str, list[str]] = {}
        self.images: list[dict[str, str]] = []
        self.open: list[str] = []
        self.classes: list[str] = []
        self.maps: dict[str, list[list[str]]] = {}
        """Label of an attention map -> its rows of cells, each with its title or empty."""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.classes += found.get("class", "").split()
        if tag == "img":
            self.images.append(found)
        self.read_map(tag, found)
        if tag not in ("img", "meta", "br", "link", "input"):
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def read_map(self, tag: str, found: dict[str, str]) -> None:
        """Add what an element adds to an attention map; other tables have no cells in `maps`."""
        if tag == "table":
            self.cells: list[list[str]] = []
            if "map" in found.get("class", "").split():
                self.maps[f"{len(self.maps)}: {found['aria-label']}"] = self.cells
        elif tag == "tr":
            self.cells.append([])
        elif tag == "td":
            self.cells[-1].append(found.get("title", ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += data
