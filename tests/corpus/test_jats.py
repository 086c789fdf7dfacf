"""JATS: meaning kept in scripts, tables and sections; nothing from outside is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from medscroll.corpus.jats import read_xml
from medscroll.corpus.options import ReadOptions
from medscroll.errors import DataError

XLINK = 'xmlns:xlink="http://www.w3.org/1999/xlink"'


def article(body: str, *, meta: str = "", back: str = "", head: str = "") -> bytes:
    return (
        f'<?xml version="1.0"?>{head}<article {XLINK} article-type="research-article"><front><article-meta>'
        f"{meta}</article-meta></front><body>{body}</body><back>{back}</back></article>"
    ).encode()


def text_of(body: str, **parts: str) -> str:
    (record,) = read_xml(article(body, **parts), "f.xml")
    return record.text


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("12.3 × 10<sup>9</sup>/L", "12.3 × 10⁹/L"),
        ("10<sup>−3</sup> mL kg<sup>-1</sup>", "10⁻³ mL kg⁻¹"),
        ("CO<sub>2</sub> and PaO<sub>2</sub>", "CO₂ and PaO₂"),
        ("C<sub>max</sub>, A10<sub>EXTEM</sub>", "Cₘₐₓ, A10_(EXTEM)"),
        ("the 5<sup>th</sup> day, Xylo<sup>®</sup>", "the 5th day, Xylo®"),
        ("F<sub>(2, 120)</sub>", "F_(2, 120)"),
        ('shown<sup><xref ref-type="bibr" rid="b1">12</xref></sup> here', "shown[12] here"),
        ('shown<sup><xref ref-type="bibr">1</xref>,<xref ref-type="bibr">3</xref></sup>', "shown[1,3]"),
        ('shown<xref ref-type="bibr" rid="b1"><sup>12</sup></xref> here', "shown[12] here"),
        ('disease<xref ref-type="bibr" rid="b1">12</xref>', "disease[12]"),
        ('disease [<xref ref-type="bibr" rid="b1">12</xref>]', "disease [12]"),
        ('4.5<xref ref-type="table-fn" rid="n">1</xref>', "4.5¹"),
        ('Summary<xref ref-type="table-fn" rid="n">b</xref>', "Summaryb".replace("yb", "yᵇ")),
        ("p &lt; 0.05,\n   and <italic>n</italic> = 3", "p < 0.05, and n = 3"),
        ("a\u00a0b\u2009c", "a\u00a0b\u2009c"),
    ],
)
def test_inline_meaning_is_kept(markup: str, text: str) -> None:
    assert text_of(f"<p>{markup}</p>") == text


def test_sections_are_where_their_headings_are() -> None:
    body = (
        "<sec><label>1</label><title>Methods</title><p>One.</p><sec><title>Dose</title><p>Two.</p></sec></sec>"
        "<sec><title/><p>Three.</p></sec><p>Four.</p>"
    )
    meta = (
        "<title-group><article-title>A <italic>b</italic></article-title></title-group>"
        "<abstract><p>Short.</p></abstract><kwd-group><kwd>x</kwd><kwd>y</kwd></kwd-group>"
    )
    (record,) = read_xml(article(body, meta=meta), "f")
    assert record.title == "A b"
    assert record.text == (
        "# A b\n\n## Abstract\n\nShort.\n\nKeywords: x; y\n\n"
        "## 1 Methods\n\nOne.\n\n### Dose\n\nTwo.\n\nThree.\n\nFour."
    )
    found = [(section.level, section.title, record.text[section.start :][:6]) for section in record.sections or []]
    assert found == [
        (1, "A b", "# A b\n"),
        (2, "Abstract", "## Abs"),
        (2, "1 Methods", "## 1 M"),
        (3, "Dose", "### Do"),
        (2, "", "Three."),
    ]


def test_tables_are_rows_with_the_names_of_their_columns() -> None:
    table = (
        "<table-wrap><label>Table 2</label><caption><title>Weight</title></caption><table>"
        '<thead><tr><th rowspan="2">Group</th><th colspan="2">Value</th></tr>'
        "<tr><th>Before</th><th>After</th></tr></thead>"
        '<tbody><tr><td colspan="3">Women</td></tr><tr><td rowspan="2">A</td><td>1</td><td>2</td></tr>'
        "<tr><td>3</td><td>10<sup>4</sup></td></tr><tr><td>B</td><td/><td>5</td></tr></tbody></table>"
        "<table-wrap-foot><fn><label>a</label><p>A note.</p></fn></table-wrap-foot></table-wrap>"
    )
    assert text_of(f"<p>See the table.{table} And on.</p>") == (
        "See the table. And on.\n\nTable 2. Weight\nColumns: Group | Value / Before | Value / After\nWomen\n"
        "A — Value / Before: 1; Value / After: 2\nA — Value / Before: 3; Value / After: 10⁴\nB — Value / After: 5\n"
        "a A note."
    )


def test_lists_figures_and_formulas_stay_references_are_counted() -> None:
    body = (
        '<p>Do:<list list-type="order"><list-item><p>one</p><list><list-item><p>in</p></list-item></list></list-item>'
        "<list-item><p>two</p></list-item></list>then.</p>"
        '<fig><label>Fig. 1</label><caption><p>Flow.</p></caption><graphic xlink:href="f.jpg"/></fig>'
        '<p><disp-formula><math xmlns="http://www.w3.org/1998/Math/MathML"><mfrac><mi>a</mi><mrow><mi>b</mi><mo>+</mo>'
        "<mn>1</mn></mrow></mfrac><mo>=</mo><msup><mi>x</mi><mn>2</mn></msup></math><label>(1)</label></disp-formula></p>"
    )
    back = "<ref-list><title>References</title><ref><mixed-citation>Hidden</mixed-citation></ref><ref/></ref-list>"
    back += "<ack><p>Thanks.</p></ack>"
    back += "<glossary><def-list><def-item><term>BP</term><def><p>pressure</p></def></def-item></def-list></glossary>"
    meta = (
        '<permissions><license xlink:href="http://creativecommons.org/licenses/by/4.0/"><license-p>Free.</license-p>'
        '</license></permissions><article-id pub-id-type="pmid">5</article-id><pub-date><year>2012</year></pub-date>'
    )
    (record,) = read_xml(article(body, back=back, meta=meta), "f")
    assert record.text == (
        "Do:\n\n1. one\n  - in\n2. two\n\nthen.\n\nFig. 1. Flow.\n\na/(b+1) = x² (1)\n\n"
        "## Acknowledgements\n\nThanks.\n\nBP: pressure"
    )
    assert record.licence == "http://creativecommons.org/licenses/by/4.0/"
    assert record.metadata["references"] == 2
    assert record.metadata["images"] == 1
    assert record.metadata["article_ids"] == {"pmid": "5"}
    assert record.metadata["year"] == "2012"


def test_no_entity_is_resolved_and_no_file_is_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET")
    for kind in ("", "% "):
        with pytest.raises(DataError, match="outside of the file") as error:
            text_of("<p>a &x; b</p>", head=f'<!DOCTYPE article [<!ENTITY {kind}x SYSTEM "file://{secret}">]>')
        assert "SECRET" not in str(error.value)
    head = f'<!DOCTYPE article [<!ENTITY x SYSTEM "file://{secret}" NDATA IMAGE><!ENTITY y "inner">]>'
    text = text_of("<p>a b &y; c</p>", head=head)
    assert "SECRET" not in text
    assert "inner" not in text
    assert text.startswith("a ")
    external = '<!DOCTYPE article PUBLIC "-//NLM//DTD" "http://127.0.0.1:9/nothing.dtd">'
    assert text_of("<p>5 &micro;g &alpha;</p>", head=external) == "5 µg α"


def test_billion_laughs_are_refused() -> None:
    entities = '<!ENTITY a "lol">' + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    with pytest.raises(DataError, match="RESOURCE_LIMIT"):
        text_of("<p>&j;</p>", head=f"<!DOCTYPE article [{entities}]>")


def test_other_xml_gives_the_text_of_all_elements() -> None:
    (record,) = read_xml(
        b"<notes><note><t>Title</t><p>Fever <b>38.5</b> C</p></note><note><p>Two</p></note></notes>", "f"
    )
    assert record.text == "Title\n\nFever 38.5 C\n\nTwo"
    assert record.metadata == {"format": "xml", "root": "notes"}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb18030", "iso-8859-1"])
def test_declared_encodings(encoding: str) -> None:
    word = "naïve" if encoding == "iso-8859-1" else "发热"
    data = f'<?xml version="1.0" encoding="{encoding}"?><article><body><p>{word}</p></body></article>'.encode(encoding)
    assert [record.text for record in read_xml(data, "f")] == [word]


def test_several_articles_in_one_file_are_several_records() -> None:
    one = "<article><front/><body><p>One</p></body></article>"
    records = list(read_xml(f"<set>{one}{one.replace('One', 'Two')}</set>".encode(), "f"))
    assert [(record.number, record.text) for record in records] == [(1, "One"), (2, "Two")]


def test_broken_xml_names_the_line_and_quotes_nothing() -> None:
    with pytest.raises(DataError) as caught:
        list(read_xml(b'<?xml version="1.0"?>\n<article>\n<p>Zhang San</q></article>', "f.xml"))
    assert "f.xml, line 3" in str(caught.value)
    assert "Zhang" not in str(caught.value)


CALLS = (
    '<p>Disease<xref ref-type="bibr" rid="b">1</xref> was rare [<xref ref-type="bibr">2</xref>, <xref ref-type="bibr">3'
    '</xref>], mild<sup><xref ref-type="bibr">4</xref>–<xref ref-type="bibr">6</xref></sup> '
    '(see <xref ref-type="bibr">7</xref>) and short (<xref ref-type="fig">Fig. 2</xref>; p &lt; 0.05), '
    "10<sup>9</sup>/L (p = 0.1, "
    '<xref ref-type="table">Table 1</xref>) in <xref ref-type="fig">Figure 3</xref>. a[1] '
    '<xref ref-type="table-fn">b</xref></p>'
)


@pytest.mark.parametrize(
    ("options", "text", "dropped"),
    [
        (ReadOptions(), "Disease[1] was rare [2, 3], mild[4–6] (see 7) and short (Fig. 2; p < 0.05), 10⁹/L (p = 0.1, "
         "Table 1) in Figure 3. a[1] b", {}),
        (ReadOptions(citations=False), "Disease was rare, mild and short (Fig. 2; p < 0.05), 10⁹/L (p = 0.1, Table 1) "
         "in Figure 3. a[1] b", {"citations": 6}),
        (ReadOptions(figure_calls=False), "Disease[1] was rare [2, 3], mild[4–6] (see 7) and short (p < 0.05), 10⁹/L "
         "(p = 0.1) in. a[1] b", {"figure_calls": 3}),
        (ReadOptions(citations=False, figure_calls=False), "Disease was rare, mild and short (p < 0.05), 10⁹/L "
         "(p = 0.1) in. a[1] b", {"citations": 6, "figure_calls": 3}),
    ],
)  # fmt: skip
def test_citations_and_figure_calls_by_option(options: ReadOptions, text: str, dropped: dict[str, int]) -> None:
    (record,) = read_xml(article(CALLS), "f", options)
    assert record.text == text
    found = {name.removeprefix("jats_dropped_"): n for name, n in record.counts.items() if "call_char" not in name}
    assert found == dropped


def test_reference_lists_by_option() -> None:
    back = (
        "<ref-list><title>Literature</title><ref><label>1</label><mixed-citation>A B. <source>J</source> 2012"
        "</mixed-citation></ref><ref><element-citation><person-group><name><surname>Chen</surname><given-names>X</given-names></name>"
        "<name><surname>Li</surname><given-names>Y</given-names></name></person-group><article-title>T<sub>3</sub>"
        "</article-title><year>2020</year></element-citation></ref></ref-list>"
    )
    (left_out,) = read_xml(article("<p>Text.</p>", back=back), "f")
    assert left_out.text == "Text."
    characters = len("Literature1AB.J2012ChenXLiYT32020")
    assert left_out.counts == {"jats_references": 2, "jats_reference_characters": characters}
    (kept,) = read_xml(article("<p>Text.</p>", back=back), "f", ReadOptions(references=True))
    assert kept.text == "Text.\n\n## Literature\n\n1 A B. J 2012\nChen X, Li Y. T₃. 2020"
    assert kept.metadata["references"] == left_out.metadata["references"] == 2
    assert not kept.counts


def test_formulas_keep_one_of_their_forms() -> None:
    tex = "<tex-math>\\documentclass{a}\\begin{document}$$x^2$$\\end{document}</tex-math>"
    math = '<math xmlns="http://www.w3.org/1998/Math/MathML"><msup><mi>x</mi><mn>2</mn></msup></math>'
    assert text_of(f"<p>a <inline-formula>{tex}</inline-formula> b</p>") == "a $$x^2$$ b"
    assert text_of(f"<p>a <inline-formula><alternatives>{tex}</alternatives></inline-formula> b</p>") == "a $$x^2$$ b"
    both = f"<inline-formula><alternatives>{tex}{math}</alternatives></inline-formula>"
    (record,) = read_xml(article(f"<p>a {both}</p>"), "f")
    assert record.text == "a x²"
    assert record.counts["jats_alternative_characters"] > 10


def test_front_matter_is_counted_and_notes_have_their_headings() -> None:
    meta = (
        "<article-id>5</article-id><title-group><article-title>T</article-title><alt-title>Run</alt-title></title-group>"
        "<contrib-group><contrib><name><surname>Li</surname></name></contrib></contrib-group>"
    )
    data = article("<p>Text.</p>", meta=meta).replace(
        b"</front>", b"<notes><title>Data Availability</title><p>None.</p></notes></front>"
    )
    (record,) = read_xml(data, "f")
    assert record.text == "# T\n\n## Data Availability\n\nNone.\n\nText."
    assert record.counts == {"jats_front_matter_characters": len("5RunLi")}


def test_absurd_nesting_is_named() -> None:
    def nested(depth: int) -> bytes:
        return article("<p>" + "<bold>" * depth + "x" + "</bold>" * depth + "</p>")

    (record,) = read_xml(nested(100), "f")
    assert record.text == "x"
    for depth in (3000, 100_000):
        with pytest.raises(DataError, match="f"):
            list(read_xml(nested(depth), "f"))
