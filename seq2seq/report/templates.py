"""The package's templates: the page, its text in Markdown, and a chart's panel."""

import base64
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from ..config.languages import counted_units
from ..figures import attention_figure, rendered
from ..runs.examples import WorkedExample


def rendered_template(name: str, content: Mapping[str, Any]) -> str:
    """Return a template filled in; in HTML, values are escaped."""
    return _environment().get_template(name).render(content)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("seq2seq.report", ""),
        autoescape=select_autoescape(["html.jinja"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "cell": lambda text: text.replace("|", "\\|"),  # in a Markdown table
        "base64": lambda content: base64.b64encode(content).decode(),
        "packaged": lambda name: (files("seq2seq.report") / name).read_bytes(),
        "attention_map": attention_map,
    }
    environment.filters["units"] = counted_units
    return environment


def attention_map(example: WorkedExample) -> bytes:
    """Return an example's attention as a PNG."""
    weights = np.array(example.attention)
    figure = attention_figure(weights, example.source_pieces, example.target_pieces)
    return rendered(figure, "png", dpi=96)
