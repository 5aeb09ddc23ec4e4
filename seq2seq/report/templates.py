"""The package's templates: the page, its text in Markdown, and a chart's panel."""

import base64
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import (
    Environment,
    PackageLoader,
    StrictUndefined,
    pass_eval_context,
    select_autoescape,
)
from jinja2.nodes import EvalContext
from markupsafe import Markup

from ..config.languages import counted_units
from ..figures import attention_figure, rendered
from ..runs.examples import WorkedExample
from ..shown import escaped, markdown


def rendered_template(name: str, content: Mapping[str, Any]) -> str:
    """Return a template filled in; in HTML, values are escaped."""
    return _environment().get_template(name).render(content)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("seq2seq.report", ""),
        autoescape=select_autoescape(["html.jinja"]),
        finalize=visible,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "md": markdown,
        "visible": escaped,
        "base64": lambda content: base64.b64encode(content).decode(),
        "packaged": lambda name: (files("seq2seq.report") / name).read_bytes(),
        "attention_map": attention_map,
    }
    environment.filters["units"] = counted_units
    return environment


@pass_eval_context
def visible(context: EvalContext, value: Any) -> Any:
    """Return a value of the page with control characters by their codes, except line ends.

    HTML stays as it is, and so does what is not HTML.
    """
    if not context.autoescape or isinstance(value, Markup) or not isinstance(value, str):
        return value
    return "\n".join(map(escaped, value.split("\n")))


def attention_map(example: WorkedExample) -> bytes:
    """Return an example's attention as a PNG."""
    weights = np.array(example.attention)
    figure = attention_figure(weights, example.source_pieces, example.target_pieces)
    return rendered(figure, "png", dpi=96)
