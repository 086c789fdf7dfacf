"""Bytes to text: UTF-8, UTF-16 and GB18030 told apart by strict decoding and evidence, never by replacement.

Order: a byte order mark decides. Zero bytes mean UTF-16 without a mark, if the characters it gives are plausible, else
a binary file. Then strict UTF-8. Then UTF-16 without a mark, by the planes of its characters (Chinese text has its
high bytes between 4E and 9F). Then strict GB18030, if what it gives looks like Chinese: Latin-1, Big5 and binary data
often decode as GB18030 without an error. Everything else is an error that names the byte. Speed: decoding itself, and
a check of at most 40,000 characters.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from medscroll.errors import DataError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_MAGIC = (
    (b"%PDF-", "a PDF file"), (b"PK\x03\x04", "a ZIP archive (or .docx, .xlsx, .epub)"), (b"\x1f\x8b", "gzip data"),
    (b"\x28\xb5\x2f\xfd", "zstd data"), (b"\x89PNG", "a PNG image"), (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"), (b"\x7fELF", "a program"), (b"\xd0\xcf\x11\xe0", "an old Office file (.doc, .xls)"),
    (b"PAR1", "a Parquet file"), (b"7z\xbc\xaf\x27\x1c", "a 7z archive"), (b"BZh", "bzip2 data"),
    (b"\xfd7zXZ", "xz data"), (b"Rar!", "a RAR archive"), (b"{\\rtf", "an RTF file"),
    (b"SQLite format", "a SQLite database"),
)  # fmt: skip
_REMEDY = (
    "convert it to UTF-8 (`iconv -f ENCODING -t UTF-8`); UTF-8, UTF-16 and GB18030 are found by themselves, other "
    "encodings (Big5, Latin-1, Shift-JIS) cannot be told apart safely"
)
LONGEST_LINE = 1 << 27  # characters of a line that is a record
_SAMPLE = 200_000  # bytes that evidence is taken from
_CHECKED = 20_000  # characters at either end that must look Chinese
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
# The most frequent characters of modern and of classical Chinese, simplified and traditional: about every fifth
# character of a Chinese text is one of them.
FREQUENT_HAN = frozenset(
    "的一是不了在人有我他这中大来上个到说们为子和你地出道也时年得就那要下以生会自着去之过家学对可她里后小么心多天而能好都然"
    "没日于起还发成事只作当想看文无开手用主行方又如前所本见经头面公同三已老从动两长知样现分其者此则故曰气血水火阴阳脉痛热寒"
    "治病症药服煎钱二四五六七八九十患检查诊疗正常无肿术性炎酸與為這個來時會說學對過發後於無開見經頭長氣陰陽脈熱藥錢"
)


def name_binary(head: bytes) -> str | None:
    """What kind of binary file begins with these bytes; None where they may be text."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if len(head) > 262 and head[257:262] == b"ustar":
        return "a tar archive"
    return None


def detect_encoding(data: bytes, name: str, *, whole: bool = True) -> tuple[str, int]:
    """(codec, length of the byte order mark) of some text.

    Args:
        data: the bytes; at least the first megabyte of a file, and if `whole`, all of them.
        name: the file, for errors.
        whole: false where a character may be cut off at the end.

    Raises:
        DataError: binary or undecodable; file and byte offset are named.
    """
    kind = name_binary(data)
    if kind:
        raise _binary(name, kind)
    for mark, codec in _BOMS:
        if data.startswith(mark):
            _check(data[len(mark) :], codec, len(mark), name, whole)
            return codec, len(mark)
    sample = data[:_SAMPLE]
    if b"\0" in sample:
        guess = _utf16_by_evidence(sample, needs_zero=True)
        if guess is None and _is_dirty_utf8(data, sample, whole):
            return "utf-8", 0
        if guess is None:
            raise _binary(name, f"binary: it holds zero bytes, the first at byte {data.index(0)}")
        _check(data, guess, 0, name, whole)
        return guess, 0
    if len(_CONTROLS.findall(sample)) > max(8, len(sample) // 20):
        raise _binary(name, "binary: it holds many control characters")
    utf8_error = _strict_error(data, "utf-8", whole)
    if utf8_error is None:
        return "utf-8", 0
    guess = _utf16_by_evidence(sample, needs_zero=False)
    if guess is not None and _strict_error(data, guess, whole) is None:
        return guess, 0
    gb_error = _strict_error(data, "gb18030", whole)
    if gb_error is None and looks_chinese(_head(data, "gb18030")):
        return "gb18030", 0
    found = f"not UTF-8 (byte {utf8_error})"
    found += f", not GB18030 (byte {gb_error})" if gb_error is not None else ", and no plausible Chinese in GB18030"
    raise DataError(f"undecodable bytes: {found}", f"{name}, byte {utf8_error}", _REMEDY)


def decode(data: bytes, name: str) -> tuple[str, str]:
    """(text without a byte order mark, codec) of a whole file.

    Raises:
        DataError: as `detect_encoding`.
    """
    codec, mark = detect_encoding(data, name)
    return data[mark:].decode(codec), codec


def looks_chinese(text: str) -> bool:
    """Whether text decoded as GB18030 is plausibly Chinese.

    At least 40 % of its characters beyond ASCII must be in GB2312 (traditional text in GBK has 60 to 70 %; an accented
    Latin-1 letter before an ASCII one never is), few may be in private use, and of a hundred or more Chinese
    characters 8 % must be among the most frequent ones (3 % of twenty or more). Chinese books give 24 % and more; Big5,
    EUC-KR and Cyrillic read as GB18030 give 0 to 5 %.
    """
    sample = text if len(text) <= 2 * _CHECKED else text[:_CHECKED] + text[-_CHECKED:]
    foreign = {char: number for char, number in Counter(sample).items() if not char.isascii()}
    if not foreign:
        return True
    total = sum(foreign.values())
    known = sum(number for char, number in foreign.items() if _in_gb2312(char))
    private = sum(number for char, number in foreign.items() if "\ue000" <= char <= "\uf8ff")
    if known < 0.4 * total or private > 0.1 * total:
        return False
    chinese = {char: number for char, number in foreign.items() if _HAN.match(char)}
    han = sum(chinese.values())
    if han < 20:
        return True
    frequent = sum(number for char, number in chinese.items() if char in FREQUENT_HAN)
    return frequent >= (0.08 if han >= 100 else 0.03) * han


def decode_stream(stream: BinaryIO, name: str, *, offset: int = 0, block: int = 1 << 20) -> Iterator[str]:
    """The text of a stream in pieces, in constant memory.

    The encoding is decided by the first block that holds anything but ASCII (before it UTF-8 and GB18030 are the
    same); whatever contradicts it later is an error.

    Args:
        stream: bytes.
        name: the file, for errors.
        offset: where in the file the stream begins, for errors; a mark is looked for only at 0.
        block: bytes a read.

    Raises:
        DataError: as `detect_encoding`, with the byte offset in the file (decompressed where it was compressed).
    """
    decoder: codecs.IncrementalDecoder | None = None
    codec = ""
    position = offset
    while True:
        data = stream.read(block)
        if decoder is None:
            if data and data.isascii() and b"\0" not in data and (position or not name_binary(data)):
                yield data.decode("ascii")
                position += len(data)
                continue
            if not data:
                return
            data += stream.read(4)
            codec, mark = _detect_at(data, name, position)
            decoder = codecs.getincrementaldecoder(codec)("strict")
            data, position = data[mark:], position + mark
        before = len(decoder.getstate()[0])
        try:
            text = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            at = position - before + error.start
            raise DataError(f"undecodable bytes: not {codec.upper()}", f"{name}, byte {at}", _REMEDY) from None
        if text:
            yield text
        if not data:
            return
        position += len(data)


class LongLine(str):
    """Stands for a line that is too long to be held: empty, and knows its length.

    Attributes:
        characters: of the line.
    """

    characters: int = 0

    @classmethod
    def of(cls, characters: int) -> LongLine:
        """The one for a line of so many characters."""
        line = cls()
        line.characters = characters
        return line


def decode_lines(stream: BinaryIO, name: str, *, offset: int = 0, block: int = 1 << 20) -> Iterator[str]:
    """The lines of a stream with their `\\n`; only `\\n` ends a line (not U+2028, not `\\r`).

    Memory is constant: a line of more than `LONGEST_LINE` characters is passed over, and a `LongLine` given for it.
    """
    rest: list[str] = []
    held = 0
    for text in decode_stream(stream, name, offset=offset, block=block):
        pieces = text.split("\n")
        held += len(pieces[0])
        if held > LONGEST_LINE:
            rest.clear()
        if len(pieces) == 1:
            if held <= LONGEST_LINE:
                rest.append(text)
            continue
        yield "".join(rest) + pieces[0] + "\n" if held <= LONGEST_LINE else LongLine.of(held)
        held = len(pieces[-1])
        for piece in pieces[1:-1]:
            yield piece + "\n"
        rest = [pieces[-1]]
    if held:
        yield "".join(rest) if held <= LONGEST_LINE else LongLine.of(held)


def _detect_at(data: bytes, name: str, position: int) -> tuple[str, int]:
    try:
        codec, mark = detect_encoding(data, name, whole=False)
    except DataError as error:
        if position and "byte" in (error.where or ""):
            at = position + int((error.where or "").rsplit(" ", 1)[-1])
            raise DataError("undecodable bytes", f"{name}, byte {at}", error.remedy) from None
        raise
    return codec, mark if position == 0 else 0


def _strict_error(data: bytes, codec: str, whole: bool) -> int | None:
    """The byte where strict decoding fails; None where it does not."""
    try:
        codecs.getincrementaldecoder(codec)("strict").decode(data, final=whole)
    except UnicodeDecodeError as error:
        return error.start
    return None


def _check(data: bytes, codec: str, mark: int, name: str, whole: bool) -> None:
    at = _strict_error(data, codec, whole)
    if at is not None:
        raise DataError(f"undecodable bytes: not {codec.upper()}", f"{name}, byte {mark + at}", _REMEDY)


def _head(data: bytes, codec: str) -> str:
    return codecs.getincrementaldecoder(codec)("strict").decode(data[: 2 * _SAMPLE], final=False)


def _in_gb2312(char: str) -> bool:
    try:
        char.encode("gb2312")
    except UnicodeEncodeError:
        return False
    return True


def _is_dirty_utf8(data: bytes, sample: bytes, whole: bool) -> bool:
    """Whether data with some zero bytes is UTF-8 text all the same: a few in a thousand, no other control characters.

    The zero bytes are taken out later and counted ("nul").
    """
    zeros = sample.count(0)
    few = zeros <= max(2, len(sample) // 500) and zeros < len(sample) // 4
    return few and len(_CONTROLS.findall(sample)) - zeros <= zeros and _strict_error(data, "utf-8", whole) is None


def _utf16_by_evidence(sample: bytes, *, needs_zero: bool) -> str | None:
    """The byte order of UTF-16 without a mark; None where the sample is not convincingly UTF-16."""
    sample = sample[: len(sample) & ~1]
    best: tuple[float, str] | None = None
    for codec in ("utf-16-le", "utf-16-be"):
        try:
            text = codecs.getincrementaldecoder(codec)("strict").decode(sample, final=False)
        except UnicodeDecodeError:
            continue
        if not text:
            continue
        share = sum(1 for char in text if _plausible(char)) / len(text)
        if best is None or share > best[0]:
            best = (share, codec)
    return best[1] if best and best[0] >= (0.9 if needs_zero else 0.95) else None


def _plausible(char: str) -> bool:
    """Whether a character is of the planes that Chinese and English text consists of."""
    code = ord(char)
    if code < 0x250:
        return code >= 0x20 or char in "\t\n\r\f"
    return (
        0x4E00 <= code <= 0x9FFF or 0x2000 <= code <= 0x22FF or 0x3000 <= code <= 0x30FF
        or 0xFF00 <= code <= 0xFFEF or 0x370 <= code <= 0x3FF
    )  # fmt: skip


def _binary(name: str, kind: str) -> DataError:
    return DataError(f"not a text file but {kind}", name, "convert it to text, or move it out of the source folder")
