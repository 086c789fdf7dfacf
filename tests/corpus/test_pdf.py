"""PDF: text of good pages, every other page named with its number and reason; a broken file never ends the run."""

from __future__ import annotations

import json
import random
from collections import Counter
from io import BytesIO
from pathlib import Path

import pytest

from medscroll.corpus.files import read_jsonl_zst
from medscroll.corpus.options import ReadOptions
from medscroll.corpus.pdf_quality import page_problem
from medscroll.corpus.pdf_reader import read_pdf
from medscroll.corpus.pipeline import Pipeline
from medscroll.corpus.record import Record
from medscroll.corpus.stage import document_shards, read_shard, write_documents
from medscroll.errors import DataError
from tests.corpus.pdf_samples import Page, lines, make_pdf, wide

pytest.importorskip("pypdf")
CHINESE = "患者因发热三天入院，体温三十八度五，血压正常，无咳嗽，不伴头痛。" * 5
ENGLISH = [
    "The patient was admitted with fever for three days.", "Blood pressure was 120/80 mmHg and the pulse 72.",
    "No cough, no headache, appetite and sleep were normal.",
]  # fmt: skip


def read(pages: list[Page], **options: object) -> list[Record]:
    return list(read_pdf(make_pdf(pages, **options), "a.pdf", "a.pdf"))  # type: ignore[arg-type]


def test_text_of_both_languages() -> None:
    (record,) = read([(lines(*ENGLISH),), (wide(CHINESE),)], title="A title")
    assert record.text == "\n".join(ENGLISH) + "\n\f" + CHINESE
    assert record.title == "A title"
    assert record.metadata["page_characters"] == [len("\n".join(ENGLISH)), len(CHINESE)]
    assert record.counts == {"pdf_pages": 2}


def test_scanned_garbled_and_blank_pages_are_named_with_their_numbers() -> None:
    pages: list[Page] = [(lines(*ENGLISH),), (b"", "image"), (b"",), (lines("7"), "image"), (lines(*ENGLISH),)]
    document, *left_out = read(pages)
    assert document.text.split("\n\f") == ["\n".join(ENGLISH), "", "", "", "\n".join(ENGLISH)]
    assert document.metadata["pages_left_out"] == {"scanned_page": [2, 4], "blank_page": [3]}
    assert [(r.number, r.id, r.reason) for r in left_out] == [
        (2, "a.pdf#page=2", "scanned_page"), (4, "a.pdf#page=4", "scanned_page"),
    ]  # fmt: skip
    assert "page 2 of 5" in left_out[0].detail
    assert document.counts == {"pdf_pages": 5, "pdf_scanned_page": 2, "pdf_blank_page": 1}


@pytest.mark.parametrize("shift", [0x1234, 0x3000, 0x5A00, 0x2B7, -0x2F00])
def test_a_font_with_a_wrong_map_is_found(shift: int) -> None:
    assert not [r.reason for r in read([(wide(CHINESE),)]) if r.reason]
    document, page = read([(wide(CHINESE),)], shift=shift)
    assert document.reason == "no_readable_page"
    assert (page.number, page.reason) == (1, "garbled_page")
    assert CHINESE[:4] not in page.detail


def shifted(text: str, by: int) -> str:
    return "".join(chr((ord(c) - 97 + by) % 26 + 97) if c.islower() else c for c in text)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (" ".join(ENGLISH) * 3, None),
        (CHINESE, None),
        ("Table 2  12.3 4.5 <0.05 3.1±0.2 (95% CI 1.2–3.4) 10⁹/L μg α β ≥ ≤ " * 5, None),
        ("1 Introduction . . . . . . . . . . . . . . 3\n2 Methods . . . . . . . . . . . . . . . 5\n" * 8, None),
        ("\uf0b7 one item of a list\n\uf0b7 another item of it\n" * 5, None),
        ("β-лактам is not much of it, and the rest is English text about a drug, given twice. " * 3, None),
        ("(cid:12)(cid:7)(cid:99) text", "cid"),
        ("患者\ufffd\ufffd\ufffd血压", "replacement"),
        ("\ue123\ue456\ue789 a few more letters", "private_use"),
        ("\uf041\uf042\uf043\uf044\uf045\uf046" * 10, "private_use"),
        ("abc\x01\x02\x03\x04def", "control"),
        (" ".join(ENGLISH) + " It was 38\x01" + "5 today.", "numbers"),
        (" ".join(ENGLISH) + " It was 0\ue123" + "5 g today.", "numbers"),
        (" ".join(ENGLISH) + " de\x02nite", None),
        ("ꀀꀁأبดมאבकख" * 20, "rare_scripts"),
        ("龘靐齉爩鱻麤龗灪吁龖厵滟爨癵籱饢驫鲡鹂鸾" * 10, "rare_characters"),
        ("»¼½ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎ" * 10, "accents"),
        (shifted(" ".join(ENGLISH).lower() * 3, 7), "letters"),
        ("!@#$%^&*()+={}[]|<>?/~" * 20, "symbols"),
        ("".join(" ".join(ENGLISH).split()) * 3, "no_spaces"),
        ("\n".join(" ".join(ENGLISH).replace(" ", "")) * 2, "scattered"),
    ],
)
def test_signs_of_a_garbled_page(text: str, problem: str | None) -> None:
    found = page_problem(text)
    assert (found[0] if found else None) == problem
    if found:
        assert not any(word in found[1] for word in ("patient", "患者", "龘"))


def test_bookmarks_are_sections_with_their_pages() -> None:
    pages: list[Page] = [(lines("Methods", *ENGLISH),), (lines(*ENGLISH, "Results", "It worked."),)]
    (record,) = read(pages, bookmarks=[(0, "Methods"), (1, "Results"), (1, "Not in the text")])
    found = [(s.title, s.page, record.text[s.start :].split("\n")[0]) for s in record.sections or []]
    assert found == [("Methods", 1, "Methods"), ("Results", 2, "Results")]
    assert read(pages)[0].sections is None  # then headings are looked for in the text


NOTO = Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc")


@pytest.mark.skipif(not NOTO.is_file(), reason="needs the font Noto Sans CJK")
@pytest.mark.parametrize("kind", [3, 42])
def test_a_real_chinese_font_with_and_without_its_map(kind: int) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from pypdf import PdfReader, PdfWriter

    with matplotlib.rc_context({"pdf.fonttype": kind}):
        figure = Figure(figsize=(8, 6))
        for row in range(8):
            figure.text(0.05, 0.9 - 0.1 * row, CHINESE[:32], fontproperties=FontProperties(fname=str(NOTO)))
        out = BytesIO()
        figure.savefig(out, format="pdf")
    (record,) = read_pdf(out.getvalue(), "a.pdf", "a.pdf")
    assert record.text.count(CHINESE[:32]) == 8
    writer = PdfWriter(clone_from=PdfReader(BytesIO(out.getvalue())))
    fonts = [o for o in writer._objects if isinstance(o, dict) and "/ToUnicode" in o]
    assert fonts
    for font in fonts:
        del font["/ToUnicode"]
    stripped = BytesIO()
    writer.write(stripped)
    document, page = read_pdf(stripped.getvalue(), "a.pdf", "a.pdf")
    assert (document.reason, page.reason) == ("no_readable_page", "garbled_page")


def encrypted(password: str) -> bytes:
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(BytesIO(make_pdf([(lines(*ENGLISH),)]))))
    writer.encrypt(password, owner_password="owner", algorithm="RC4-128")
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


def test_encrypted_files_are_named_and_those_with_an_empty_password_read() -> None:
    with pytest.raises(DataError, match="password") as caught:
        list(read_pdf(encrypted("secret"), "a.pdf", "a.pdf"))
    assert caught.value.reason == "encrypted"
    (record,) = read_pdf(encrypted(""), "a.pdf", "a.pdf")
    assert record.text == "\n".join(ENGLISH)


def test_the_run_goes_on_over_bad_files_and_names_each(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    good = make_pdf([(lines(*ENGLISH),), (b"", "image")])
    files = {
        "good.pdf": good, "empty.pdf": b"", "cut.pdf": good[: len(good) // 3], "no.pdf": b"plain text",
        "scan.pdf": make_pdf([(b"", "image")]), "secret.pdf": encrypted("x"),
    }  # fmt: skip
    for name, data in files.items():
        (source / name).write_bytes(data)
    summary = write_documents([source], tmp_path / "out", pipeline=Pipeline(ReadOptions(tolerant=True)))
    documents = [d for path in document_shards(tmp_path / "out") for d in read_shard(path)]
    assert "good.pdf" in {document.id for document in documents}
    rejects = [
        json.loads(line) for path in sorted((tmp_path / "out" / "rejects").iterdir()) for line in read_jsonl_zst(path)
    ]
    found = {reject["id"]: reject["reason"] for reject in rejects}
    assert found["good.pdf#page=2"] == found["scan.pdf#page=1"] == "scanned_page"
    assert found["secret.pdf"] == "encrypted"
    assert found["no.pdf"] == "broken_pdf"
    assert found["empty.pdf"] == "empty"
    assert found["scan.pdf"] == "no_readable_page"
    assert "cut.pdf" in {*found, *(document.id for document in documents)}
    read_step = summary.steps["read"]
    rejected = sum(reason["documents"] for reason in read_step["rejected"].values())
    assert read_step["documents"]["in"] == read_step["documents"]["out"] + rejected


def test_damaged_bytes_end_in_a_named_error_or_a_record() -> None:
    data = make_pdf([(lines(*ENGLISH),), (wide(CHINESE),)], bookmarks=[(0, "A"), (1, "B")])
    random_numbers = random.Random(3)
    outcomes: Counter[str] = Counter()
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(random_numbers.choice((1, 5, 40))):
            damaged[random_numbers.randrange(len(damaged))] = random_numbers.randrange(256)
        try:
            list(read_pdf(bytes(damaged), "a.pdf", "a.pdf"))
            outcomes["record"] += 1
        except DataError as error:
            outcomes[error.reason] += 1
    assert set(outcomes) <= {"record", "broken_pdf", "encrypted"}
    assert outcomes["record"] > 5
