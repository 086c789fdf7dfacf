"""Tables as lines that can be read without their layout: each row with the names of its columns.

    Columns: Characteristic | Group A | Group B
    Weight, kg — Group A: 61.2; Group B: 60.8

Cells that span columns or rows are repeated where they reach; heads of several rows are joined with " / ". A row of
one cell over all columns is a heading inside the table and stays one. The same for tables of articles, of web pages
and of recognised pages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_DIGIT = re.compile(r"\d")
MOST_SPAN = 200  # columns or rows; larger values in a file are mistakes


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table: its text on one line, how many columns and rows it reaches over, whether it is a <th>."""

    text: str
    columns: int = 1
    rows: int = 1
    is_head: bool = False


def span(value: str | None) -> int:
    """The value of a `colspan` or `rowspan` attribute; 1 where it is none."""
    if value is None or value == "1":
        return 1
    text = value.strip()
    return min(MOST_SPAN, max(1, int(text))) if text.isascii() and text.isdigit() and len(text) < 6 else 1


def grid_lines(head: Sequence[Sequence[Cell]], body: Sequence[Sequence[Cell]], *, guess: bool = False) -> list[str]:
    """The rows of a table as lines of text; empty rows are left out.

    Args:
        head: rows of the head; where there are none, leading rows of the body that are all <th> are taken.
        body: the other rows.
        guess: where no cell is a <th> (as in recognised pages), take a first row without numbers over at least two
            columns of numbers for the head. Forms of names and values beside each other do not look like that.
    """
    heads, rows = list(head), list(body)
    if not heads:
        while len(rows) > 1 and rows[0] and all(cell.is_head for cell in rows[0]):
            heads.append(rows.pop(0))
    if guess and not heads and _looks_headed(rows):
        heads.append(rows.pop(0))
    grid = _grid([*heads, *rows], len(heads))
    columns = max((len(row) for row in grid), default=0)
    if not columns:
        return []
    grid = [row + [""] * (columns - len(row)) for row in grid]
    names = [_column_name([row[column] for row in grid[: len(heads)]]) for column in range(columns)]
    lines = []
    for row in grid[len(heads) :]:
        line = _row_line(row, names)
        if line:
            lines.append(line)
    shown = names if names[0] else names[1:]
    columns_line = [f"Columns: {' | '.join(shown)}"] if any(shown) else []
    return columns_line + lines


def _looks_headed(rows: Sequence[Sequence[Cell]]) -> bool:
    width = len(rows[0]) if rows else 0
    if len(rows) < 3 or width < 3 or any(cell.is_head for row in rows for cell in row):
        return False
    if any(cell.rows > 1 or cell.columns > 1 or _DIGIT.search(cell.text) for cell in rows[0]):
        return False
    body = [row for row in rows[1:] if len(row) == width]
    for column in range(1, width):
        cells = [row[column].text for row in body if row[column].text]
        if not rows[0][column].text or sum(bool(_DIGIT.search(text)) for text in cells) < max(2, 0.7 * len(cells)):
            return False
    return True


def _grid(rows: Sequence[Sequence[Cell]], heads: int) -> list[list[str]]:
    """Rows of cell texts with spans filled in; `heads` of them are head rows."""
    grid: list[list[str]] = []
    reaching: dict[int, tuple[int, str]] = {}  # column -> (rows left, text)
    for number, cells in enumerate(rows):
        line: list[str] = []
        if number == heads:
            reaching.clear()
        if number >= heads and len(cells) == 1 and not reaching:
            grid.append([cells[0].text])
            continue
        for cell in cells:
            _fill(line, reaching)
            for _ in range(cell.columns):
                if cell.rows > 1:
                    reaching[len(line)] = (cell.rows - 1, cell.text)
                line.append(cell.text)
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
