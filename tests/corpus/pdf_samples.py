"""Small PDF files made byte by byte: pages of text, of an image alone, of a font whose map to Unicode is wrong."""

from __future__ import annotations

import re
from collections.abc import Sequence

Page = Sequence[bytes | str]  # the content stream, then names of resources: "image", "cid"


def lines(*texts: str, size: int = 12, font: str = "F1") -> bytes:
    """The content stream of some lines of Latin text."""
    shown = "".join(
        f"({text}) Tj T*\n" for text in (t.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)") for t in texts)
    )
    return f"BT /{font} {size} Tf 14 TL 50 740 Td\n{shown}ET".encode("latin-1")


def wide(text: str) -> bytes:
    """A content stream that shows two-byte codes of the font F2; the code of a character is its UTF-16."""
    return b"BT /F2 12 Tf 50 700 Td <" + text.encode("utf-16-be").hex().encode() + b"> Tj ET"


def make_pdf(
    pages: Sequence[Page], *, bookmarks: Sequence[tuple[int, str]] = (), shift: int = 0, title: str = ""
) -> bytes:
    """A PDF file.

    Args:
        pages: content and resources of each.
        bookmarks: (page from 0, title).
        shift: added to every code of the font F2 in its map to Unicode: 0 is a right map, others garble.
        title: of the document.
    """
    objects: list[bytes] = []

    def add(data: bytes) -> int:
        objects.append(data)
        return len(objects)

    def stream(data: bytes, extra: bytes = b"") -> int:
        return add(b"<< /Length %d %s>>\nstream\n%s\nendstream" % (len(data), extra, data))

    catalog, tree = add(b""), add(b"")
    font = add(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
    codes = sorted({code for content, *_ in pages for code in _codes(content)})
    mapping = b"/CIDInit /ProcSet findresource begin\n12 dict begin\nbegincmap\n1 begincodespacerange\n<0000> <ffff>\n"
    mapping += b"endcodespacerange\n%d beginbfchar\n" % len(codes)
    mapping += b"".join(b"<%04x> <%04x>\n" % (code, (code + shift) & 0xFFFF) for code in codes)
    mapping += b"endbfchar\nendcmap\nend\nend"
    unicode_map = stream(mapping)
    below = add(
        b"<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Sample /CIDSystemInfo << /Registry (Adobe) /Ordering "
        b"(Identity) /Supplement 0 >> /DW 1000 >>"
    )
    cid = add(
        b"<< /Type /Font /Subtype /Type0 /BaseFont /Sample /Encoding /Identity-H /DescendantFonts [%d 0 R] "
        b"/ToUnicode %d 0 R >>" % (below, unicode_map)
    )
    image = stream(
        b"\x80" * 8,
        b"/Type /XObject /Subtype /Image /Width 1654 /Height 2339 /ColorSpace /DeviceGray /BitsPerComponent 8 ",
    )
    kids = []
    for content, *resources in pages:
        assert isinstance(content, bytes)
        used = b"/XObject << /Im1 %d 0 R >> " % image if "image" in resources else b""
        body = content + (b"\nq 595 0 0 842 0 0 cm /Im1 Do Q" if "image" in resources else b"")
        text = stream(body)
        kids.append(
            add(
                b"<< /Type /Page /Parent %d 0 R /MediaBox [0 0 595 842] /Contents %d 0 R /Resources << /Font << /F1 "
                b"%d 0 R /F2 %d 0 R >> %s>> >>" % (tree, text, font, cid, used)
            )
        )
    outline = b""
    if bookmarks:
        root = add(b"")
        items = [len(objects) + 1 + n for n in range(len(bookmarks))]
        for n, (page, name) in enumerate(bookmarks):
            near = b"/Next %d 0 R " % items[n + 1] if n + 1 < len(items) else b""
            near += b"/Prev %d 0 R " % items[n - 1] if n else b""
            add(b"<< /Title (%s) /Parent %d 0 R %s/Dest [%d 0 R /Fit] >>" % (name.encode(), root, near, kids[page]))
        objects[root - 1] = b"<< /Type /Outlines /First %d 0 R /Last %d 0 R /Count %d >>" % (
            items[0], items[-1], len(items),
        )  # fmt: skip
        outline = b"/Outlines %d 0 R " % root
    information = add(b"<< /Title (%s) /CreationDate (D:20240102) >>" % title.encode())
    objects[catalog - 1] = b"<< /Type /Catalog /Pages %d 0 R %s>>" % (tree, outline)
    objects[tree - 1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (
        len(kids), b" ".join(b"%d 0 R" % kid for kid in kids),
    )  # fmt: skip
    return _file(objects, catalog, information)


def _codes(content: bytes | str) -> set[int]:
    """The two-byte codes that a content stream shows."""
    assert isinstance(content, bytes)
    found = b"".join(re.findall(rb"<([0-9a-f]+)> Tj", content)).decode()
    return {int(found[at : at + 4], 16) for at in range(0, len(found), 4)}


def _file(objects: list[bytes], catalog: int, information: int) -> bytes:
    out = bytearray(b"%PDF-1.7\n")
    places = []
    for number, data in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, data)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root %d 0 R /Info %d 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1, catalog, information, table,
    )  # fmt: skip
    return bytes(out)
