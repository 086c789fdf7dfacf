"""The real corpora: all 283 documents, readable, with their sections and their numbers."""

from __future__ import annotations

import gzip
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from lxml import etree

from medscroll.corpus.document import Document
from medscroll.corpus.stage import document_shards, read_shard, write_documents

pytestmark = pytest.mark.corpora


@pytest.fixture(scope="module")
def documents(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Document]:
    out = tmp_path_factory.mktemp("prepared")
    folders = [shared_dir / "corpora" / name for name in ("pmc_articles_en", "tcm_classics_zh")]
    summary = write_documents(folders, out, num_workers=2)
    assert summary.rejects == {}
    assert summary.repairs == {}
    found = {document.id: document for path in document_shards(out) for document in read_shard(path)}
    assert summary.documents == len(found)
    return found


def raw(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def test_no_document_is_lost_and_none_is_garbled(documents: dict[str, Document]) -> None:
    assert Counter(document.lang for document in documents.values()) == {"en": 205, "zh": 78}
    for document in documents.values():
        assert "\ufffd" not in document.text
        assert "\r" not in document.text
        assert document.sections, document.id
        assert all(a.start <= b.start for a, b in zip(document.sections, document.sections[1:], strict=False))


def test_classics_are_the_gb18030_text_itself(documents: dict[str, Document], shared_dir: Path) -> None:
    paths = sorted((shared_dir / "corpora" / "tcm_classics_zh").iterdir())
    assert len(paths) == 78
    for path in paths:
        expected = re.sub(r"\r+\n|\r", "\n", raw(path).decode("gb18030"))
        assert documents[path.name].text == expected
        han = sum("\u3400" <= char <= "\u9fff" for char in expected)
        assert han > 0.5 * len(expected)


def test_articles_keep_every_word_and_superscript(documents: dict[str, Document], shared_dir: Path) -> None:
    missing = total = powers = 0
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
    for path in sorted((shared_dir / "corpora" / "pmc_articles_en").iterdir()):
        root = etree.fromstring(raw(path), parser)
        document = documents[path.name]
        assert document.licence
        assert "creativecommons.org" in document.licence
        assert document.metadata["references"] == len(list(root.iter("ref")))
        assert document.title
        have = set(re.findall(r"[A-Za-z]{4,}", unicodedata.normalize("NFKC", document.text)))
        for paragraph in root.iterfind("body//p"):
            words = [word for text in paragraph.itertext() for word in re.findall(r"\b[A-Za-z]{4,}\b", text)]
            total += len(words)
            missing += sum(word not in have for word in words)
        for element in root.iterfind("body//p//sup"):
            if element.text and re.fullmatch(r"\d", element.text) and len(element) == 0:
                powers += 1
                assert unicodedata.normalize("NFKC", element.text) in unicodedata.normalize("NFKC", document.text)
    assert total > 400_000
    assert missing < total / 1000, "words next to sub- and superscripts, nothing else, may differ"
    assert powers > 300


def test_tables_are_in_the_text(documents: dict[str, Document]) -> None:
    tables = sum(document.text.count("\nColumns: ") for document in documents.values())
    assert tables > 500


def test_every_letter_of_an_article_is_written_or_counted(documents: dict[str, Document], shared_dir: Path) -> None:
    """Of every text node, its letters and digits stand in the document, or it is in a part that is counted."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
    names = "self::ref-list or self::tex-math or self::object-id or self::fn[ancestor::article-title]"
    left_out = f"ancestor-or-self::*[{names}]"
    total = 0
    missing = []
    for path in sorted((shared_dir / "corpora" / "pmc_articles_en").iterdir())[::3]:
        root = etree.fromstring(raw(path), parser)
        have = letters(documents[path.name].text)
        places = (
            "front/article-meta/abstract | front/article-meta/title-group/article-title | front/notes | "
            "front/article-meta/kwd-group | body | back | floats-group | sub-article/body"
        )
        for part in root.xpath(places):
            for text in part.xpath(f".//text()[not(parent::*[{left_out}])]"):
                node = text.getparent().getparent() if text.is_tail else text.getparent()
                if text.is_tail and node.xpath(f"boolean({left_out})"):
                    continue
                wanted = letters(text)
                total += len(wanted)
                if wanted and wanted not in have:
                    missing.append((path.name, node.tag, len(wanted)))
    assert total > 1_000_000
    assert not missing


def letters(text: str) -> str:
    return re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", text)).lower()
