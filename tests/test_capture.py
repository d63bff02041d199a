"""Output: any bytes, any size, cut anywhere; secrets masked, facts found."""

from __future__ import annotations

import random
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobkit.executors.capture import CHUNK_CHARACTERS, Capture
from jobkit.executors.facts import Fact
from jobkit.executors.masking import Mask


class Heard:
    """A capture and all that came out of it."""

    def __init__(self, secrets: tuple[str, ...] = (), head: int = 4 << 20, tail: int = 6 << 20):
        self.chunks: list[tuple[str, str]] = []
        self.facts: list[Fact] = []
        self.capture = Capture(
            lambda text, stream: self.chunks.append((text, stream)),
            self.facts.append,
            secrets,
            head,
            tail,
        )

    def all(self, *pieces: bytes) -> Heard:
        for piece in pieces:
            self.capture.feed(piece)
        self.chunks += self.capture.close()
        return self

    def text(self, stream: str = "output") -> str:
        return "".join(text for text, of in self.chunks if of == stream)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def decoded(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\x00", "␀")


cuts = st.lists(st.integers(0, 300), max_size=12)


@given(st.lists(st.binary(max_size=50), max_size=20), st.sampled_from([0, 7, 40]))
def test_output_under_the_cap_is_what_was_written_however_it_is_split(
    blocks: list[bytes], head: int
) -> None:
    heard = Heard(head=head, tail=2000).all(*blocks)
    assert heard.text() == decoded(b"".join(blocks))
    assert heard.capture.omitted_bytes == 0


# Bytes that mean something to one of the stages, and that cut each other.
MEANT = ["é€😀".encode(), b"\xff", b"\0", b"\xe2\x82", b"secret", b"sec", b"\n", b"\r", b"::cell "]
MEANT += [b"::cell {}\n", b"::progress 0.5\n", b"::metric n 1\n", b"c2VjcmV0", b"%|", b"x"]


@given(st.lists(st.sampled_from(MEANT) | st.binary(max_size=5), max_size=30), cuts, st.booleans())
def test_what_is_handed_on_is_the_same_wherever_the_stream_is_cut(
    blocks: list[bytes], cuts: list[int], is_flushed: bool
) -> None:
    data = b"".join(blocks)
    heard = Heard(secrets=("secret",), head=100, tail=500)
    for piece in pieces(data, cuts):
        heard.capture.feed(piece)
        if is_flushed:
            heard.capture.flush()
    heard.all()
    whole = Heard(secrets=("secret",)).all(data)
    assert heard.text() == whole.text()
    assert heard.text("cell") == whole.text("cell")
    assert heard.facts == whole.facts
    mask = Mask(["secret"])
    shown = mask.feed(data) + mask.close()
    if b"::cell {}" not in shown:
        assert heard.text() == decoded(shown)
    assert "secret" not in heard.text() + heard.capture.last()


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=40))
def test_output_over_the_cap_counts_what_it_leaves_out(blocks: list[bytes]) -> None:
    heard = Heard(head=10, tail=30).all(*blocks)
    capture, data = heard.capture, b"".join(blocks)
    assert capture.total_bytes == len(data)
    # The tail begins with a whole character: at most three bytes more are left out for that.
    assert 0 <= capture.omitted_bytes - max(0, len(data) - 40) <= 3
    if capture.omitted_bytes:
        tail = data[10 + capture.omitted_bytes :]
        said = f"\n… {capture.omitted_bytes} bytes left out …\n"
        assert heard.text() == decoded(data[:10]) + said + decoded(tail)


def test_half_a_character_at_the_cut_is_left_out_whole() -> None:
    heard = Heard(head=4, tail=4).all("€€€€".encode())
    assert heard.text() == "€�\n… 5 bytes left out …\n€"


def test_a_line_is_handed_on_at_the_next_flush() -> None:
    heard = Heard(secrets=("secret",))
    heard.capture.feed(b"step 1 ")
    heard.capture.flush()
    heard.capture.feed(b"token=secret done\xe2\x82")
    heard.capture.flush()
    assert heard.chunks == [("step 1 ", "output"), ("token=*** done", "output")]
    heard.capture.feed(b"\xac\n")
    assert heard.capture.close() == [("€\n", "output")]


def test_chunks_are_bounded_and_the_last_go_with_the_result() -> None:
    heard = Heard()
    data = "😀x".encode() * 300_000
    heard.capture.feed(data)
    rest = heard.capture.close()
    assert "".join(text for text, _ in heard.chunks + rest) == data.decode()
    assert sum(len(text) for text, _ in rest) <= CHUNK_CHARACTERS
    assert max(len(text.encode()) for text, _ in heard.chunks) <= 256 << 10


def test_cells_are_a_stream_of_their_own_in_the_order_of_writing() -> None:
    heard = Heard().all(b'before\n::cell {"id": 1}\n::cell {"id": 2}\nafter\n::cell {"id": 3}')
    assert heard.chunks == [
        ("before\n", "output"),
        ('{"id": 1}\n{"id": 2}\n', "cell"),
        ("after\n", "output"),
        ('{"id": 3}\n', "cell"),
    ]
    assert heard.capture.last() == "before\nafter\n"


def test_a_cell_is_whole_or_left_out() -> None:
    events = [f'{{"id": {number}, "text": "{"é" * (number % 40)}"}}' for number in range(3000)]
    heard = Heard(head=10_000, tail=20_000).all(*(f"::cell {event}\n".encode() for event in events))
    kept = heard.text("cell").splitlines()
    gap = next(at for at, event in enumerate(events) if event != kept[at])
    assert kept == events[:gap] + events[gap - len(kept) :]
    lost = sum(len(event.encode()) + 1 for event in events[gap : gap - len(kept)])
    assert heard.capture.omitted_bytes == lost
    assert heard.text() == f"\n… {lost} bytes left out …\n"


def test_long_runs_of_cells_are_cut_between_events() -> None:
    event = b'::cell "' + b"x" * 30_000 + b'"\n'
    heard = Heard().all(event * 20)
    assert all(text.endswith('"\n') and len(text) < 1 << 16 for text, _ in heard.chunks)
    assert heard.text("cell").count("\n") == 20


def test_facts_count_where_the_text_is_left_out() -> None:
    heard = Heard(head=100, tail=100)
    heard.all(b"x" * 1000, b"\n::metric rows 7\n", b"y" * 1000)
    assert heard.facts == [Fact("metric", "rows", 7, "")]
    assert "::metric" not in heard.text()


def test_a_bar_is_told_at_the_flush_and_is_never_overtaken_by_an_older_one() -> None:
    heard = Heard()
    bars = [f"\r{n}%|#| {n}/100 [00:01<00:02, 1it/s]".encode() for n in (10, 20, 30)]
    heard.capture.feed(b"".join(bars))
    heard.capture.flush()
    heard.capture.feed(b"\n")
    assert [fact.value for fact in heard.facts] == [0.1, 0.2, 0.3]


def test_secrets_are_in_no_text_and_no_fact() -> None:
    heard = Heard(secrets=("hunter22",), head=40, tail=60)
    said = b'::progress 0.5 hunter22\n::result {"p": "hunter22"}\n::cell "hunter22"\nhunter22'
    heard.all(*(said[at : at + 1] for at in range(len(said))), b"\n" + b"hunter22" * 50)
    assert "hunter22" not in f"{heard.chunks} {heard.facts} {heard.capture.last()}"
    assert heard.facts[-1].value == {"p": "***"}


@pytest.mark.parametrize("size", [1, 100, 5000, 65536])
def test_output_of_any_size_takes_little_memory(size: int) -> None:
    lines = b"".join(
        b"%d a line of text\n" % random.Random(at).randrange(10**9) for at in range(99)
    )
    block = (lines * 50)[:size]
    capture = Capture(lambda *_: None, head_bytes=1 << 20, tail_bytes=1 << 20)
    tracemalloc.start()
    try:
        for _ in range(max(1, (3 << 20) // size) if size > 1 else 50_000):
            capture.feed(block)
        capture.close()
        assert tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()
