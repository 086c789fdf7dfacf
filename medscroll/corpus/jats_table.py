"""Tables of JATS as lines that can be read without their layout (see table_grid.py)."""

from __future__ import annotations

from typing import Any

from medscroll.corpus.jats_inline import collapse, inline_text, local_name
from medscroll.corpus.table_grid import Cell, grid_lines, span


def table_lines(table: Any) -> list[str]:
    """The rows of a <table> element as lines of text; empty rows are left out."""
    head: list[list[Cell]] = []
    body: list[list[Cell]] = []
    for row in table.iter():
        if local_name(row) == "tr":
            (head if local_name(row.getparent()) == "thead" else body).append(_cells(row))
    return grid_lines(head, body)


def _cells(row: Any) -> list[Cell]:
    return [
        Cell(collapse(inline_text(cell)), span(cell.get("colspan")), span(cell.get("rowspan")), name == "th")
        for cell in row
        if (name := local_name(cell)) in ("td", "th")
    ]
