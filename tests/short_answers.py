"""Runs with given scores, and the short answer about them."""

from seq2seq.report.answers import overview
from seq2seq.report.groups import Group
from seq2seq.report.norms import norm_rows


def short_answer(found: Group) -> tuple[str, dict[str, dict[str, str]]]:
    """Return the sentences of the answer about a group, and its table's rows by norm."""
    (answer,) = overview([found], [norm_rows(found)])
    rows = answer.table.rows if answer.table else []
    return " ".join(answer.sentences), {next(iter(row.values())): row for row in rows}
