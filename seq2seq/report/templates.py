"""The package's templates: the page, its text in Markdown, and a chart's panel."""

import base64
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

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
from ..figures import SHADES, piece_label, shade, short_label
from ..shown import counted, escaped, markdown


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
    filters: dict[str, Callable[[Any], Any]] = {
        "md": markdown,
        "visible": escaped,
        "base64": lambda content: base64.b64encode(content).decode(),
        "packaged": lambda name: (files("seq2seq.report") / name).read_bytes(),
        "label": lambda piece: short_label(escaped(piece_label(piece))),
        "shade": shade,
        "units": counted_units,
    }
    environment.filters |= filters
    environment.globals |= {"shades": SHADES, "zip": zip, "counted": counted}
    return environment


@pass_eval_context
def visible(context: EvalContext, value: Any) -> Any:
    """Return a value of the page with control characters by their codes, except line ends.

    HTML stays as it is, and so does what is not HTML.
    """
    if not context.autoescape or isinstance(value, Markup) or not isinstance(value, str):
        return value
    return "\n".join(map(escaped, value.split("\n")))
