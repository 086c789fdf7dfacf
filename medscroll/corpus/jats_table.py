"""Tables of JATS as lines that can be read without their layout: each row with the names of its columns.

    Columns: Characteristic | Group A | Group B
    Weight, kg — Group A: 61.2; Group B: 60.8

Cells that span columns or rows are repeated where they reach; heads of several rows are joined with " / ". A row of
one cell over all columns is a heading inside the table and stays one.
"""

from __future__ import annotations

from typing import Any

from medscroll.corpus.jats_inline import collapse, inline_text, local_name

_MOST_SPAN = 200  # columns or rows; larger values in a file are mistakes


def table_lines(table: Any) -> list[str]:
    """The rows of a <table> element as lines of text; empty rows are left out."""
    head, body = _rows(table)
    grid = _grid(head + body, len(head))
    columns = max((len(row) for row in grid), default=0)
    if not columns:
        return []
    grid = [row + [""] * (columns - len(row)) for row in grid]
    heads = grid[: len(head)]
    names = [_column_name([row[column] for row in heads]) for column in range(columns)]
    lines = []
    for row in grid[len(head) :]:
        line = _row_line(row, names)
        if line:
            lines.append(line)
    shown = names if names[0] else names[1:]
    columns_line = [f"Columns: {' | '.join(shown)}"] if any(shown) else []
    return columns_line + lines


def _rows(table: Any) -> tuple[list[Any], list[Any]]:
    """(head rows, body rows); without a <thead>, leading rows of <th> alone are the head."""
    head = [row for row in table.iter() if local_name(row) == "tr" and local_name(row.getparent()) == "thead"]
    rows = [row for row in table.iter() if local_name(row) == "tr" and local_name(row.getparent()) != "thead"]
    if not head:
        while rows and len(rows) > 1 and _cells(rows[0]) and all(local_name(cell) == "th" for cell in _cells(rows[0])):
            head.append(rows.pop(0))
    return head, rows


def _cells(row: Any) -> list[Any]:
    return [cell for cell in row if local_name(cell) in ("td", "th")]


def _grid(rows: list[Any], heads: int) -> list[list[str]]:
    """Rows of cell texts with spans filled in; `heads` of them are head rows."""
    grid: list[list[str]] = []
    reaching: dict[int, tuple[int, str]] = {}  # column -> (rows left, text)
    for number, row in enumerate(rows):
        line: list[str] = []
        cells = _cells(row)
        if number == heads:
            reaching.clear()
        if number >= heads and len(cells) == 1 and not reaching:
            grid.append([collapse(inline_text(cells[0]))])
            continue
        for cell in cells:
            _fill(line, reaching)
            text = collapse(inline_text(cell))
            down = _span(cell, "rowspan")
            for _ in range(_span(cell, "colspan")):
                if down > 1:
                    reaching[len(line)] = (down - 1, text)
                line.append(text)
        _fill(line, reaching)
        grid.append(line)
    return grid


def _fill(line: list[str], reaching: dict[int, tuple[int, str]]) -> None:
    """Adds the cells that reach into this row from above at the present place."""
    while len(line) in reaching:
        column = len(line)
        left, text = reaching.pop(column)
        if left > 1:
            reaching[column] = (left - 1, text)
        line.append(text)


def _span(cell: Any, name: str) -> int:
    value = cell.get(name, "1").strip()
    return min(_MOST_SPAN, max(1, int(value))) if value.isdigit() and len(value) < 6 else 1


def _column_name(parts: list[str]) -> str:
    kept: list[str] = []
    for part in parts:
        if part and (not kept or kept[-1] != part):
            kept.append(part)
    return " / ".join(kept)


def _row_line(row: list[str], names: list[str]) -> str:
    cells = [
        f"{name}: {cell}" if name and name != cell else cell
        for name, cell in zip(names[1:], row[1:], strict=True)
        if cell
    ]
    if row[0] and cells:
        return f"{row[0]} — {'; '.join(cells)}"
    return row[0] or "; ".join(cells)
