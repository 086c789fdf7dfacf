"""Encodings: what is found, what is refused, and that a stream and a whole file give the same text."""

from __future__ import annotations

import io
import random

import pytest

from medscroll.corpus.encoding import decode, decode_lines, decode_stream
from medscroll.errors import DataError

CHINESE = "患者男性，五十八岁，因发热咳嗽三天入院。白细胞计数12.3×10⁹/L，给予阿莫西林治疗，病情好转。\n" * 20
ENGLISH = "The patient was given 0.5 mg once daily and recovered.\n" * 20
CLASSIC = "《本经》曰∶味甘平。主治五藏邪氣，風寒濕痹。久服輕身不老。\n" * 20


@pytest.mark.parametrize("text", [CHINESE, ENGLISH, CLASSIC, CHINESE + ENGLISH, "", "a", "热"])
@pytest.mark.parametrize(
    "codec",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030", "utf-32"],
)
def test_text_comes_back_unchanged(text: str, codec: str) -> None:
    if len(text) == 1 and codec.startswith("utf-16-"):
        pytest.skip("one character is no evidence for UTF-16 without a mark")
    assert decode(text.encode(codec), "f")[0] == text


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "gb18030"])
@pytest.mark.parametrize("block", [64, 1000, 1 << 20])
def test_a_stream_gives_the_text_of_the_whole_file(codec: str, block: int) -> None:
    text = ENGLISH * 3 + CHINESE + ENGLISH
    data = text.encode(codec)
    if block < 1000 and codec == "gb18030":
        text = CHINESE + ENGLISH
        data = text.encode(codec)
    assert "".join(decode_stream(io.BytesIO(data), "f", block=block)) == text
    assert list(decode_lines(io.BytesIO(data), "f", block=block)) == text.splitlines(keepends=True)


def test_only_a_line_feed_ends_a_line() -> None:
    text = "a\u2028b\x85c\x0bd\re\nf"
    assert list(decode_lines(io.BytesIO(text.encode()), "f")) == ["a\u2028b\x85c\x0bd\re\n", "f"]


@pytest.mark.parametrize(
    "data",
    [
        "Größe für Ärzte: naïve café, señor, façade, oedème déjà vu. ".encode("latin-1") * 20,
        "台灣的醫學雜誌報導了這個病例，患者因為發燒而住院治療。".encode("big5") * 40,
        "환자는 발열과 기침으로 입원하였다. 대한민국의 수도는 서울이며 사람이 많다. ".encode("euc-kr") * 40,
        ENGLISH.encode() + b"\xff\xfe" + CHINESE.encode(),
        CHINESE.encode()[:-10] + b"\xe6\x82",
    ],
    ids=["latin-1", "big5", "euc-kr", "broken utf-8", "cut utf-8"],
)
def test_what_is_no_known_encoding_is_refused_with_its_byte(data: bytes) -> None:
    with pytest.raises(DataError) as caught:
        decode(data, "folder/f.txt")
    assert "undecodable bytes" in str(caught.value)
    offset = int((caught.value.where or "").removeprefix("folder/f.txt, byte "))
    data[:offset].decode("utf-8")  # everything before is fine
    with pytest.raises(UnicodeDecodeError):
        data.decode("utf-8")


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"%PDF-1.7 ...", "PDF"),
        (b"PK\x03\x04....", "ZIP"),
        (bytes(random.Random(1).randbytes(5000)), "binary"),
        (b"\x00" * 100, "binary"),
        (bytes(range(1, 32)) * 50, "binary"),
    ],
)
def test_binary_files_are_named_as_such(data: bytes, named: str) -> None:
    with pytest.raises(DataError, match=named):
        decode(data, "f.txt")


def test_a_stream_that_changes_its_encoding_is_refused_with_the_byte() -> None:
    good = CHINESE.encode()
    data = good * 10 + "发热".encode("gb18030") + b"\n" + good
    with pytest.raises(DataError) as caught:
        list(decode_stream(io.BytesIO(data), "f", block=500))
    assert caught.value.where == f"f, byte {len(good) * 10}"


def test_gb18030_after_megabytes_of_ascii_is_found() -> None:
    text = ENGLISH * 2000 + CHINESE
    assert "".join(decode_stream(io.BytesIO(text.encode("gb18030")), "f", block=4096)) == text
