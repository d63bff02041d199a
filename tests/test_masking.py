"""Secrets in output: found however they are spelled and wherever the stream is cut."""

from __future__ import annotations

import base64
import json
from itertools import pairwise
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from jobkit.executors.masking import Mask

KEY = "pa/ss w+örd\"é?~'"
PEM = "-----BEGIN KEY-----\nMIIEow\nx=\n  q7Zk/+9\n-----END KEY-----\n"


def masked(values: list[str], *pieces: bytes) -> bytes:
    mask = Mask(values)
    return b"".join([*(mask.feed(piece) for piece in pieces), mask.close()])


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def test_without_secrets_the_same_bytes_come_back() -> None:
    data = b"anything"
    assert Mask([]).feed(data) is data
    assert Mask(["abc", "", "    ", "a\nb\nc"]).feed(data) is data


@pytest.mark.parametrize(
    "spelled",
    [
        KEY,
        json.dumps(KEY)[1:-1],
        json.dumps(KEY, ensure_ascii=False)[1:-1],
        quote(KEY),
        quote(KEY, safe=""),
        quote(KEY, safe="!'()*"),
        quote_plus(KEY),
        "pa%2fss%20w%2b%c3%b6rd%22%c3%a9%3f~%27",
    ],
)
def test_a_value_is_found_in_each_spelling(spelled: str) -> None:
    assert masked([KEY], f"<{spelled}>".encode()) == b"<***>"


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("before", ["", "u", "us", "use", "user:"])
@pytest.mark.parametrize("after", ["", "x", "xy", "xyz"])
@pytest.mark.parametrize("value", [KEY, "abcd", "tok>>>???"])
def test_a_value_inside_a_longer_base64_text_cannot_be_read_back(
    encode: type, before: str, after: str, value: str
) -> None:
    coded = encode((before + value + after).encode())
    shown = masked([value], b"Basic " + coded + b"\n")
    assert b"***" in shown
    # At most the characters that the value shares with its neighbours are left.
    assert len(shown) - len(b"Basic ***\n") <= len(encode((before + after).encode())) + 4


def test_base64_by_itself_leaves_nothing() -> None:
    coded = base64.b64encode(b"abcd")
    assert masked(["abcd"], b"<" + coded + b"> <" + coded.rstrip(b"=") + b">") == b"<***> <***>"


def test_each_line_of_a_value_of_many_lines_is_found_by_itself() -> None:
    assert masked([PEM], b"a MIIEow b q7Zk/+9 c x= d\n") == b"a *** b *** c x= d\n"
    assert masked([PEM], f"<{PEM}>".encode()) == b"<***>"
    assert masked([PEM], f"<{json.dumps(PEM)}>".encode()) == b'<"***">'


def test_overlapping_values_are_one_mask() -> None:
    assert masked(["abcd", "abcdef"], b"xabcdefx") == b"x***x"
    assert masked(["abcd", "cdef"], b"xabcdefx") == b"x***x"
    assert masked(["abcd", "cdef"], b"xabcd", b"efx") == b"x***x"
    assert masked(["abcd"], b"xabcd", b"abcdx") == b"x***x"


def test_only_what_may_be_a_beginning_is_held_back() -> None:
    mask = Mask(["secret"])
    assert mask.feed(b"loading s") == b"loading "
    assert mask.feed(b"ales\n") == b"sales\n"
    assert mask.feed(b"secre") == b""
    assert mask.feed(b"secre") == b"secre"
    assert mask.feed(b"t.") == b"***."
    assert mask.feed(b"secre") == b""
    assert mask.close() == b"secre"


def test_a_value_that_is_complete_is_shown_as_a_mask_at_once() -> None:
    mask = Mask(["first line\nsecond line", "cdcdcd"])
    assert mask.feed(b"x first line") == b"x ***"
    assert mask.feed(b"\nok\n") == b"\nok\n"
    assert mask.feed(b"cdcdcd") == b"***"
    assert mask.feed(b"cd") == b""
    assert mask.feed(b"cd.") == b"."


def covered(values: list[bytes], data: bytes) -> bytes:
    """Mask byte by byte, as a person would with a pen."""
    marks = bytearray(len(data))
    for value in values:
        for start in range(len(data)):
            if data.startswith(value, start):
                marks[start : start + len(value)] = b"\1" * len(value)
    shown = b""
    for at, mark in enumerate(marks):
        if not mark:
            shown += data[at : at + 1]
        elif at == 0 or not marks[at - 1]:
            shown += b"***"
    return shown


# Two letters make overlaps, repeats and false starts likely.
few = st.text("ab", min_size=4, max_size=9)


@given(
    st.lists(few, min_size=1, max_size=4),
    st.text("ab.", max_size=80),
    st.lists(st.integers(0, 80), max_size=12),
)
@example(["abaa", "aabb"], "abaabb", [4])
def test_the_result_is_the_same_wherever_the_stream_is_cut(
    values: list[str], text: str, cuts: list[int]
) -> None:
    data = text.encode()
    expected = covered([value.encode() for value in values], data)
    assert masked(values, *pieces(data, cuts)) == expected
    assert not any(value.encode() in expected for value in values)


anything = st.text(min_size=4, max_size=20).filter(
    lambda text: "*" not in text and len(text.strip()) >= 4
) | st.from_regex("[ab]{0,2}[/é+]{0,2}[ab]{8}[/é+]{1,2}[ab]{0,2}", fullmatch=True)


@given(st.lists(anything, min_size=1, max_size=3), st.data())
def test_no_spelling_of_any_value_passes(values: list[str], data: st.DataObject) -> None:
    spellings = [
        spelled
        for value in values
        for spelled in (
            value.encode(),
            json.dumps(value)[1:-1].encode(),
            json.dumps(value, ensure_ascii=False)[1:-1].encode(),
            quote(value).encode(),
            quote_plus(value).encode(),
            base64.b64encode(value.encode()),
            base64.urlsafe_b64encode(value.encode()),
        )
    ]
    stream = b"".join(
        data.draw(st.lists(st.sampled_from(spellings) | st.binary(max_size=9), max_size=8))
    )
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=9))
    shown = masked(values, *pieces(stream, cuts))
    assert shown == masked(values, stream)
    assert not [spelled for spelled in spellings if spelled in shown]


@given(st.lists(few, min_size=1, max_size=3), st.text("ab.", max_size=40))
def test_what_is_held_back_is_the_beginning_of_a_value(values: list[str], text: str) -> None:
    assume(not any(value in text for value in values))
    beginnings = [value[:size] for value in values for size in range(len(value))]
    held = max(len(begun) for begun in beginnings if text.endswith(begun))
    assert Mask(values).feed(text.encode()) == text[: len(text) - held].encode()
