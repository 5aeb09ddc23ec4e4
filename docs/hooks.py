"""Hooks of mkdocs: links from a page to files of the repository outside docs/."""

import logging
import re
from pathlib import Path

import jieba
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

jieba.setLogLevel(logging.WARNING)  # the search index uses it; it reports its dictionary otherwise
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)#]*)(#[^)]*)?\)")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Show the text of links that leave docs/, which the site doesn't have; check their targets."""
    docs = Path(config.docs_dir)
    folder = (docs / page.file.src_uri).parent

    def shown(link: re.Match[str]) -> str:
        target = (folder / link[2]).resolve()
        if target.is_relative_to(docs):
            return link[0]
        if not target.exists():
            raise PluginError(f"{page.file.src_uri}: {link[2]}: no such file")
        return link[1]

    return LINK.sub(shown, markdown)
