"""Web pages: meaning kept in scripts, lists and tables; what is left out is counted; nothing hangs or is resolved."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from medscroll.corpus.html_reader import read_html
from medscroll.corpus.pipeline import Pipeline
from medscroll.corpus.readers import require_packages
from medscroll.corpus.record import Record
from medscroll.corpus.sources import SourceFile
from medscroll.corpus.stage import document_shards, read_shard, write_documents
from medscroll.errors import DataError, EnvironmentError_

pytest.importorskip("selectolax")


def read(body: str, head: str = "", **options: bool) -> Record:
    page = f'<!doctype html><html lang="en"><head><meta charset="utf-8">{head}</head><body>{body}</body></html>'
    (record,) = read_html(page.encode(), "page.html", **options)
    return record


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("12.3 × 10<sup>9</sup>/L", "12.3 × 10⁹/L"),
        ("CO<sub>2</sub>, A<sub>EXTEM</sub>, x<sup>a/b</sup>", "CO₂, A_(EXTEM), x^(a/b)"),
        ('shown<sup><a href="#r1">12</a></sup> here', "shown[12] here"),
        ('shown<sup class="reference"><a href="#cite">[12]</a></sup>', "shown[12]"),
        ('4.5<a href="#n1">1</a>', "4.5[1]"),
        ('see <a href="https://example.org">this</a>', "see this"),
        ("p &lt; 0.05 and n &gt; 3", "p < 0.05 and n > 3"),
        ("one<br>two", "one\ntwo"),
        ('BP <img src="ge.gif" alt="≥"> 140', "BP ≥ 140"),
        ("<math><mfrac><mi>a</mi><mn>2</mn></mfrac></math>", "a/2"),
        ('<math alttext="x^2"></math>', "x^2"),
        ("a<script>b()</script>c<span hidden>d</span>", "ac"),
        ("the 5<sup>th</sup> day", "the 5th day"),
    ],
)
def test_inline_meaning_is_kept(markup: str, text: str) -> None:
    assert read(f"<p>{markup}</p>").text == text


def test_sections_lists_and_tables() -> None:
    record = read(
        "<h1>Guide</h1><p>One.</p><h2>Dose <i>of</i> X</h2>Loose<p>Two.</p>"
        "<ul><li>a<ul><li>b</ul><li><p>c</p><p>d</p></ul><ol start=3><li>e<li>f</ol>"
        "<table><caption>Table 1</caption><thead><tr><th rowspan=2>Drug<th colspan=2>Dose<tr><th>Day<th>Night</thead>"
        "<tr><td>Aspirin<td>100 mg<td>50 mg<tr><td>Heparin<td colspan=2>5000 U</table>"
        "<dl><dt>BP<dd>pressure</dl><pre>x  y\n z</pre><blockquote>Q</blockquote>"
    )
    assert record.text == (
        "# Guide\n\nOne.\n\n## Dose of X\n\nLoose\n\nTwo.\n\n- a\n  - b\n- c d\n\n3. e\n4. f\n\n"
        "Table 1\nColumns: Drug | Dose / Day | Dose / Night\nAspirin — Dose / Day: 100 mg; Dose / Night: 50 mg\n"
        "Heparin — Dose / Day: 5000 U; Dose / Night: 5000 U\n\nBP: pressure\n\nx  y\n z\n\nQ"
    )
    assert [(s.level, s.title, record.text[s.start :][:4]) for s in record.sections or []] == [
        (1, "Guide", "# Gu"), (2, "Dose of X", "## D"),
    ]  # fmt: skip


FRAME = (
    '<script>var a = 1;</script><header><nav><a href="/">Home</a></nav></header>'
    '<div class="side menu"><a>Menu</a></div>'
)


def test_the_frame_of_a_page_is_left_out_and_every_character_of_it_counted() -> None:
    inner = "<h1>Title</h1>" + "<p>Body text of the page.</p>" * 5
    for body, outside in (
        (f"{FRAME}<main>{inner}<aside>Key point</aside></main><footer>Foot</footer>", "HomeMenuFoot"),
        (f"{FRAME}<div>{inner}</div><aside>Aside</aside><footer>Foot</footer>", "HomeMenuAsideFoot"),
    ):
        record = read(body)
        assert not re.search("Home|Menu|Foot|Aside", record.text)
        assert ("Key point" in record.text) == ("<main>" in body)
        counted = record.counts.get("html_outside_main_characters", 0)
        counted += record.counts.get("html_left_out_characters", 0)
        assert counted == len(outside)
        whole = read(body, everything=True)
        assert all(word in whole.text for word in ("Home", "Menu", "Foot", "Title"))
    assert read("<p>a</p><script>x</script><style>y</style>").counts == {"html_script": 1, "html_style": 1}


def test_a_main_element_with_little_text_is_not_taken_for_the_page() -> None:
    record = read("<main><p>Short.</p></main><div><p>" + "The text of this page. " * 10 + "</p></div>")
    assert "The text of this page." in record.text
    assert "Short." in record.text


def test_layout_tables_are_text_and_their_data_tables_tables() -> None:
    record = read(
        "<table><tr><td><h2>Left</h2><p>Words.</p><table><tr><th>A<th>B<tr><td>1<td>2</table></td>"
        "<td><p>Right.</p></td></tr></table>"
    )
    assert record.text == "## Left\n\nWords.\n\nColumns: A | B\n1 — B: 2\n\nRight."


def test_what_is_needed_to_cite_a_page_is_kept() -> None:
    record = read(
        "<p>x</p>",
        '<title>Site | T</title><meta name="citation_title" content="T"><meta name="citation_doi" content="10.1/y">'
        '<meta name="citation_author" content="A B"><meta name="citation_author" content="C D">'
        '<link rel="license" href="https://creativecommons.org/licenses/by/4.0/">',
    )
    assert (record.title, record.licence) == ("T", "https://creativecommons.org/licenses/by/4.0/")
    assert record.metadata["authors"] == ["A B", "C D"]
    assert record.metadata["doi"] == "10.1/y"
    assert record.metadata["html_lang"] == "en"


@pytest.mark.parametrize(
    ("declared", "real"),
    [("gb2312", "gb18030"), ("GBK", "gbk"), ("big5", "big5"), ("utf-8", "utf-8"), ("utf-8", "gb18030"), ("", "utf-16")],
)
def test_encodings_of_the_meta_element(declared: str, real: str) -> None:
    words = "患者发热三天，血压正常，无咳嗽，" * 10 if real != "big5" else "患者發熱三天，血壓正常，無咳嗽，" * 10
    head = f'<meta http-equiv="Content-Type" content="text/html; charset={declared}">' if declared else ""
    (record,) = read_html(f"<html><head>{head}</head><body><p>{words}</p></body></html>".encode(real), "f")
    assert record.text == words


def test_bad_pages_are_named(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "bad.html").write_bytes(b'<meta charset="utf-8"><p>\xff\xfe\xfa text')
    (source / "deep.html").write_text("<div>" * 20_000 + "x")
    (source / "empty.html").write_bytes(b" \n")
    (source / "good.htm").write_text("<p>Good.</p>")
    (source / "pdf.html").write_bytes(b"%PDF-1.4 nothing")
    summary = write_documents([source], tmp_path / "out", pipeline=tolerant())
    assert summary.documents == 1
    assert summary.rejects == {"empty": 1, "nested_too_deeply": 1, "undecodable": 1, "unreadable": 1}
    (document,) = [d for path in document_shards(tmp_path / "out") for d in read_shard(path)]
    assert document.text == "Good."


def tolerant() -> Pipeline:
    from medscroll.corpus.options import ReadOptions

    return Pipeline(ReadOptions(tolerant=True))


@pytest.mark.parametrize("markup", ["<div>{}</div>", "<ul><li>{}</ul>", "<b>{}</b>", "<span><p>{}</p></span>"])
def test_deep_nesting_loses_nothing(markup: str) -> None:
    body = "the words"
    for _ in range(700):
        body = markup.format(body)
    assert "the words" in read(body).text


def test_counts_reach_the_ledger(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<nav>n</nav><p>Words.</p><script>x</script>")
    summary = write_documents([tmp_path / "a.html"], tmp_path / "out")
    assert summary.steps["read"]["counts"] == {"html_left_out_characters": 1, "html_nav": 1, "html_script": 1}


def test_a_missing_package_is_named_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for kind in ("html", "pdf"):
        with pytest.raises(EnvironmentError_, match=rf"medscroll\[{kind}\]"):
            require_packages([SourceFile("a", "a", kind, "", 1, 1)])
    require_packages([SourceFile("a", "a", "text", "", 1, 1)])


def test_no_entity_or_file_is_read() -> None:
    page = (
        '<!DOCTYPE html [<!ENTITY x SYSTEM "file:///etc/hostname">]><p>a &x; b</p><iframe src="file:///etc/hostname">'
    )
    (record,) = read_html(page.encode(), "f")
    assert record.text.endswith("a &x; b")


def test_bytes_that_are_no_text_are_an_error() -> None:
    with pytest.raises(DataError, match="PNG"):
        list(read_html(b"\x89PNG....", "f"))


@pytest.mark.parametrize(
    ("rows", "headed"),
    [
        (["Drug|Day|Night", "A|1 mg|2 mg", "B|3 mg|4 mg"], True),
        (["姓名|张三", "年龄|45", "身高|170"], False),
        (["姓名|张三|性别|男", "年龄|45|电话|138", "身高|170|体重|60"], False),
        (["1|2|3", "4|5|6", "7|8|9"], False),
        (["Drug|Day|Night", "A|1 mg|2 mg"], False),
    ],
)
def test_a_head_is_guessed_only_over_columns_of_numbers(rows: list[str], headed: bool) -> None:
    cells = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row.split("|")) + "</tr>" for row in rows)
    text = read(f"<table>{cells}</table>").text
    assert text.startswith("Columns: ") == headed
    assert all(cell in text for row in rows for cell in row.split("|"))
