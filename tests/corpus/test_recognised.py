"""What MinerU and PaddleOCR made: recognised by structure, read with its pages, each document once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medscroll.corpus.document import Document
from medscroll.corpus.ocr_blocks import recognised_by
from medscroll.corpus.ocr_reader import read_recognised
from medscroll.corpus.options import ReadOptions
from medscroll.corpus.pipeline import Pipeline
from medscroll.corpus.record import Record
from medscroll.corpus.stage import document_shards, read_shard, write_documents

pytest.importorskip("selectolax")
TABLE = "<table><tr><td>Drug</td><td>Dose</td></tr><tr><td>Aspirin</td><td>10<sup>2</sup> mg</td></tr></table>"
ROWS = "Drug — Dose\nAspirin — 10² mg"
CONTENT_LIST: list[dict[str, Any]] = [
    {"type": "header", "text": "Journal", "page_idx": 0, "bbox": [0, 0, 1, 1]},
    {"type": "text", "text": "A study", "text_level": 1, "page_idx": 0},
    {"type": "text", "text": "It was found that", "page_idx": 0},
    {"type": "page_number", "text": "1", "page_idx": 0},
    {"type": "text", "text": "the dose mattered.", "page_idx": 1},
    {"type": "text", "text": "Methods", "text_level": 2, "page_idx": 1},
    {"type": "list", "sub_type": "text", "list_items": ["1. one", "2. two"], "page_idx": 1},
    {"type": "equation", "text": "$$\nx^2\n$$", "text_format": "latex", "page_idx": 1},
    {"type": "table", "img_path": "a.jpg", "table_caption": ["Table 1"], "table_body": TABLE, "table_footnote": ["n"],
     "page_idx": 2},
    {"type": "image", "img_path": "b.jpg", "image_caption": ["Figure 1. Flow"], "image_footnote": [], "page_idx": 2},
    {"type": "image", "img_path": "b.jpg", "img_caption": ["Figure 2. Old"], "img_footnote": ["note"], "page_idx": 2},
    {"type": "chart", "img_path": "c.jpg", "content": "| a | b |", "chart_caption": ["Figure 3"], "page_idx": 2},
    {"type": "ref_text", "text": "[1] Somebody", "page_idx": 2},
    {"type": "table", "img_path": "d.jpg", "table_caption": ["Table 2"], "page_idx": 2},
    {"type": "something_new", "text": "New kind.", "page_idx": 2},
]  # fmt: skip
EXPECTED = (
    "# A study\n\nIt was found that\nthe dose mattered.\n\n## Methods\n\n1. one\n2. two\n\n$$\nx^2\n$$\n\n"
    f"Table 1\n{ROWS}\nn\n\nFigure 1. Flow\n\nFigure 2. Old\nnote\n\nFigure 3\n| a | b |\n\nTable 2\n\nNew kind."
)


def check(record: Record, program: str) -> None:
    assert record.metadata["format"] == program
    assert record.title == "A study"
    assert [(s.title, s.page) for s in record.sections or []] == [("A study", 1), ("Methods", 2)]
    for section in record.sections or []:
        assert record.text[section.start :].lstrip("# ").startswith(section.title)
    assert sum(record.metadata["page_characters"]) == len(record.text)


def test_content_list_of_mineru() -> None:
    assert recognised_by(CONTENT_LIST) == "mineru"
    record = read_recognised([CONTENT_LIST], "f")
    assert record.text == EXPECTED
    check(record, "mineru")
    assert record.counts == {
        "ocr_header": 1, "ocr_page_number": 1, "ocr_left_out_characters": len("Journal1[1]Somebody"),
        "ocr_references": 1, "ocr_pictures": 3, "ocr_tables_without_text": 1, "ocr_pages": 3,
    }  # fmt: skip
    assert "[1] Somebody" in read_recognised([CONTENT_LIST], "f", references=True).text


def span(text: str, kind: str = "text") -> dict[str, str]:
    return {"type": kind, "content": text}


def test_second_form_of_the_content_list() -> None:
    value = [
        [
            {"type": "page_header", "content": {"page_header_content": [span("Journal")]}},
            {"type": "title", "content": {"title_content": [span("A study")], "level": 1}},
            {"type": "paragraph", "content": {"paragraph_content": [span("x "), span("a_1", "equation_inline")]}},
        ],
        [
            {"type": "title", "content": {"title_content": [span("Methods")], "level": 2}},
            {"type": "list", "content": {"list_type": "text_list", "list_items": [
                {"item_type": "text", "item_content": [span("1. one")]}]}},
            {"type": "equation_interline", "content": {"math_content": "x^2", "math_type": "latex"}},
            {"type": "table", "content": {"html": TABLE, "table_caption": [span("Table 1")], "table_footnote": []}},
            {"type": "image", "content": {"image_source": {"path": "i.jpg"}, "content": "",
                                          "image_caption": [span("Figure 1")]}},
        ],
    ]  # fmt: skip
    assert recognised_by(value) == "mineru"
    record = read_recognised([value], "f")
    assert record.text == (
        f"# A study\n\nx $a_1$\n\n## Methods\n\n1. one\n\n$$\nx^2\n$$\n\nTable 1\n{ROWS}\n\nFigure 1"
    )
    check(record, "mineru")


def lined(kind: str, *lines: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "lines": [{"spans": [span(line)]} for line in lines], **more}


def test_middle_file_of_mineru() -> None:
    table = {"type": "table_body", "lines": [{"spans": [{"type": "table", "html": TABLE, "image_path": "t.jpg"}]}]}
    value = {
        "_backend": "pipeline",
        "_version_name": "2.0",
        "pdf_info": [
            {"page_idx": 0, "para_blocks": [
                lined("title", "A study", level=1), lined("text", "It was an exam-", "ple of")],
             "discarded_blocks": [lined("text", "Journal")]},
            {"page_idx": 1, "para_blocks": [
                lined("title", "Methods", level=2), lined("text", "患者发热", "三天。"),
                {"type": "table", "blocks": [lined("table_caption", "Table 1"), table]},
                {"type": "image", "blocks": [{"type": "image_body", "lines": []}, lined("image_caption", "Figure 1")]},
                lined("interline_equation", "x^2")]},
        ],
    }  # fmt: skip
    assert recognised_by(value) == "mineru"
    record = read_recognised([value], "f")
    assert record.text == (
        "# A study\n\nIt was an example of\n\n## Methods\n\n患者发热三天。\n\n"
        f"Table 1\n{ROWS}\n\nFigure 1\n\n$$\nx^2\n$$"
    )
    check(record, "mineru")
    assert record.counts["ocr_discarded"] == 1
    assert record.metadata["recogniser_version"] == "2.0"


def paddle(*blocks: tuple[str, str], page: int | None = None) -> dict[str, Any]:
    listed = [{"block_label": a, "block_content": b, "block_bbox": [0, 0, 1, 1], "block_id": 0} for a, b in blocks]
    return {"input_path": "a.pdf", "page_index": page, "model_settings": {}, "parsing_res_list": listed}


PAGES = [
    paddle(("header", "Journal"), ("doc_title", "A study"), ("text", "It was found that"), ("number", "1"), page=0),
    paddle(
        ("text", "the dose mattered."), ("paragraph_title", "## Methods"),
        ("table", f"<html><body>{TABLE}</body></html>"),
        ("image", '<div style="text-align: center;"><img src="imgs/x.jpg" alt="Image"/></div>'),
        ("figure_title", '<div style="text-align: center;">Figure 1</div>'), ("reference_content", "[1] S"), page=1,
    ),
]  # fmt: skip
PADDLE_TEXT = f"# A study\n\nIt was found that\nthe dose mattered.\n\n## Methods\n\n{ROWS}\n\nFigure 1"


@pytest.mark.parametrize(
    "value",
    [
        PAGES,
        [{"res": page} for page in PAGES],
        {"layoutParsingResults": [{"prunedResult": page, "markdown": {"text": "x"}} for page in PAGES]},
        {"errorCode": 0, "result": {"layoutParsingResults": [{"prunedResult": page} for page in PAGES]}},
    ],
)
def test_results_of_paddleocr(value: Any) -> None:
    assert recognised_by(value) == "paddleocr"
    record = read_recognised([value], "f")
    assert record.text == PADDLE_TEXT
    check(record, "paddleocr")
    assert record.counts["ocr_left_out_characters"] == len("Journal1[1]S")


@pytest.mark.parametrize(
    "value", [[], {}, [{"text": "a"}], {"data": [{"text": "a"}]}, [["a"]], "x", None, {"result": {"text": "a"}}, [1]]
)
def test_other_json_is_none_of_it(value: Any) -> None:
    assert recognised_by(value) == ""


def documents(folder: Path) -> dict[str, Document]:
    return {d.id: d for path in document_shards(folder) for d in read_shard(path)}


def test_a_folder_of_output_gives_every_document_once(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("one", "two"):
        (source / name).mkdir(parents=True)
    for end in (".md", "_middle.json", "_model.json", "_content_list_v2.json", "_layout.pdf", ".pdf"):
        (source / "one" / f"one{end}").write_text("not read")
    (source / "one" / "one_content_list.json").write_text(json.dumps(CONTENT_LIST))
    for number in (10, 2, *range(3, 10), 1, 0):
        page = PAGES[min(number, 1)] if number < 2 else paddle(("text", f"Page {number}."), page=number)
        (source / "two" / f"two_{number}_res.json").write_text(json.dumps(page, indent=1))
        (source / "two" / f"two_{number}.md").write_text("not read")
    (source / "other_1_res.json").write_text('{"text": "own record"}')
    summary = write_documents([source], tmp_path / "out", pipeline=Pipeline(ReadOptions(tolerant=True)))
    found = documents(tmp_path / "out")
    assert set(found) == {"one/one_content_list.json", "two/two_*_res.json", "other_1_res.json#1"}
    assert found["one/one_content_list.json"].text == EXPECTED
    pages = "\n\n".join(f"Page {n}." for n in range(2, 11))
    assert found["two/two_*_res.json"].text == f"{PADDLE_TEXT}\n\n{pages}"
    assert len(found["two/two_*_res.json"].metadata["page_characters"]) == 11
    assert summary.rejects == {"superseded": 6 + 11}
    assert summary.failures == {}
    assert summary.steps["read"]["counts"]["ocr_pages"] == 14
    section = json.loads(found["one/one_content_list.json"].to_json())["sections"][1]
    assert section["page"] == 2
    again = write_documents([source], tmp_path / "out", pipeline=Pipeline(ReadOptions(tolerant=True)))
    assert again.shards_reused == again.shards
    (source / "two" / "two_10_res.json").write_text(json.dumps(paddle(("text", "Changed."), page=10)))
    write_documents([source], tmp_path / "out", pipeline=Pipeline(ReadOptions(tolerant=True)))
    assert documents(tmp_path / "out")["two/two_*_res.json"].text.endswith("Page 9.\n\nChanged.")


def test_a_broken_page_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a_0_res.json").write_text(json.dumps(PAGES[0]))
    (tmp_path / "a_1_res.json").write_text(json.dumps(PAGES[1])[:-5])
    (tmp_path / "b.txt").write_text("text")
    summary = write_documents([tmp_path], tmp_path / "out", pipeline=Pipeline(ReadOptions(tolerant=True)))
    assert summary.documents == 1
    assert summary.failures == {"broken_record": 1}


def test_tables_and_pictures_in_markdown(tmp_path: Path) -> None:
    text = f"# T\n\nWords.\n\n![](images/a.jpg)\n\n{TABLE}\n\n![chart](https://example.org/c.png)\n"
    (tmp_path / "a.md").write_text(text)
    summary = write_documents([tmp_path / "a.md"], tmp_path / "out")
    (document,) = documents(tmp_path / "out").values()
    assert document.text == f"# T\n\nWords.\n\n\n{ROWS}\n\n![chart](https://example.org/c.png)\n"
    assert document.title == "T"
    assert summary.steps["read"]["counts"] == {"markdown_pictures": 1, "markdown_tables": 1}


def test_answers_of_the_service_line_by_line_are_one_document(tmp_path: Path) -> None:
    def answer(*texts: str) -> str:
        blocks = [{"block_label": "text", "block_content": text, "block_bbox": [0, 0, 9, 9]} for text in texts]
        page = {"prunedResult": {"parsing_res_list": blocks}, "markdown": {"text": " ".join(texts)}}
        return json.dumps({"logId": "1", "result": {"layoutParsingResults": [page]}})

    (tmp_path / "book.jsonl").write_text(f"{answer('First page.')}\n{answer('Second page.', 'Its end.')}\n", "utf-8")
    (tmp_path / "book.pdf").write_bytes(b"%PDF-1.7 that is not read")
    (tmp_path / "other.jsonl").write_text('{"text": "A record."}\n', "utf-8")
    summary = write_documents([tmp_path], tmp_path / "out")
    found = {document.id: document for path in document_shards(tmp_path / "out") for document in read_shard(path)}
    assert set(found) == {"book.jsonl", "other.jsonl#1"}
    assert "First page." in found["book.jsonl"].text
    assert "Its end." in found["book.jsonl"].text
    assert len(found["book.jsonl"].metadata["page_characters"]) == 2
    assert summary.rejects == {"superseded": 1}
