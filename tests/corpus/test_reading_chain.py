"""From files of every kind through the default steps to documents: pages, sections and numbers arrive."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medscroll.corpus.document import Document
from medscroll.corpus.request import CorpusRequest
from medscroll.corpus.stage import document_shards, read_shard, write_documents
from tests.corpus.pdf_samples import Page, lines, make_pdf

pytest.importorskip("selectolax")
pytest.importorskip("pypdf")
BODY = (
    "It was seen in {0} that the dose of 0.5 g mattered most and that", "the pressure of {0} was 120/80 mmHg and did",
    "not change in {0} over the weeks of the study, which was", "long enough for {0} to show it, had there been any.",
)  # fmt: skip


def prepare(source: Path, out: Path, **request: object) -> dict[str, Document]:
    write_documents([source], out, pipeline=CorpusRequest(**request).pipeline())  # type: ignore[arg-type]
    return {document.id: document for path in document_shards(out) for document in read_shard(path)}


def test_headers_of_pdf_pages_go_and_sections_keep_their_pages(tmp_path: Path) -> None:
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
    pages: list[Page] = [
        (lines("Journal of Samples", f"Chapter {word}", *(line.format(word) for line in BODY), str(n + 1)),)
        for n, word in enumerate(words)
    ]
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.pdf").write_bytes(make_pdf(pages, bookmarks=[(n, f"Chapter {word}") for n, word in enumerate(words)]))
    (document,) = prepare(source, tmp_path / "out").values()
    assert "Journal of Samples" not in document.text
    assert "\f" not in document.text
    assert document.text.count("0.5 g") == document.text.count("120/80 mmHg") == len(words)
    assert [(section.title, section.page) for section in document.sections] == [
        (f"Chapter {word}", n + 1) for n, word in enumerate(words)
    ]
    for section in document.sections:
        assert document.text[section.start :].startswith(section.title)


def test_options_of_the_readers_come_from_the_corpus_configuration(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    text = "It was given to all of the patients of the second group and to none of the first one, as planned before. "
    (source / "a.xml").write_text(
        f"<article><front><article-meta/></front><body><p>{text * 3} Rare"
        ' [<xref ref-type="bibr">1</xref>], see <xref ref-type="fig">Fig. 1</xref>.</p></body><back><ref-list><ref>'
        "<mixed-citation>Somebody 2001.</mixed-citation></ref></ref-list></back></article>"
    )
    (source / "b.html").write_text(f"<nav>Home page</nav><main><p>{text * 3}</p><p>{text[::-1] * 2}</p></main>")
    config = tmp_path / "my.yaml"
    config.write_text("preset: default\nread: {references: true, citations: false, figure_calls: false, html: all}\n")
    default = prepare(source, tmp_path / "one")
    changed = prepare(source, tmp_path / "two", corpus_config=str(config))
    assert "Rare [1], see Fig. 1." in default["a.xml"].text
    assert "Somebody" not in default["a.xml"].text
    assert "Rare, see." in changed["a.xml"].text
    assert "Somebody 2001." in changed["a.xml"].text
    assert ("Home page" in default["b.html"].text, "Home page" in changed["b.html"].text) == (False, True)


def test_an_admission_through_the_clinical_steps(tmp_path: Path) -> None:
    rows = [
        {"patient_id": "p1", "admission_id": "a1", "time": f"2024-1-{day}", "kind": kind, "note": note}
        for day, kind, note in (
            (10, "出院小结", "好转出院，继续口服阿莫西林0.5g每日三次，一周后复查血常规，不适随诊，注意休息与饮食。"),
            (5, "入院记录", "主诉：发热三天。体温38.5℃，白细胞12.3×10⁹/L，血压120/80mmHg，给予头孢曲松2.0g静滴。"),
        )
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    (document,) = prepare(
        tmp_path / "a.jsonl", tmp_path / "out", corpus_config="clinical", text_template="{kind}：\n{note}",
        group_by=("patient_id", "admission_id"), order_by=("time",), split_by=("patient_id",),
    ).values()  # fmt: skip
    assert document.text.index("入院记录") < document.text.index("出院小结")
    assert all(value in document.text for value in ("38.5℃", "12.3×10⁹/L", "120/80mmHg", "2.0g", "0.5g"))
    assert document.metadata["split_key"]
    assert "p1" not in document.to_json()
