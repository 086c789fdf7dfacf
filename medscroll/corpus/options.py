"""How source files are read: the options of all readers in one plain object."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReadOptions:
    """Options of the readers.

    Attributes:
        text_field: the field of records that holds the text; None: text, content, document or body.
        text_template: fields of records joined into one text, such as "主诉：{complaint}\\n{note}"; None: text_field.
        group_by: fields whose equal values make rows one document.
        order_by: fields by which the rows of a document are ordered.
        split_by: fields whose equal values keep documents on one side of the split.
        references: write reference lists of articles too.
        citations: keep the marks in the text that point at references, such as [12].
        figure_calls: keep the marks in the text that point at figures and tables, such as Fig. 2.
        html: "main" for the main text of web pages, "all" for navigation, headers and footers too.
        tolerant: a source or record that cannot be read is named among the rejects; otherwise it is an error.
    """

    text_field: str | None = None
    text_template: str | None = None
    group_by: tuple[str, ...] = ()
    order_by: tuple[str, ...] = ()
    split_by: tuple[str, ...] = ()
    references: bool = False
    citations: bool = True
    figure_calls: bool = True
    html: str = "main"
    tolerant: bool = False

    @property
    def keys(self) -> list[str]:
        """Fields that rows are joined, ordered and split by."""
        return list(dict.fromkeys((*self.group_by, *self.order_by, *self.split_by)))

    @property
    def named(self) -> list[str]:
        """Fields that the options name themselves, those of a template aside."""
        return [*([self.text_field] if self.text_field else []), *self.keys]
