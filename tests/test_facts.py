"""Facts that programs tell by printing a line, and what is just text."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobkit.executors.facts import LONGEST_LINE, Fact, Lines, recognise

BAR = "Loading:  42%|████▏     | 42/100 [00:01<00:02, 30.00it/s]"


@pytest.mark.parametrize(
    ("line", "share", "message"),
    [
        ("::progress 0.42 loading the north", 0.42, "loading the north"),
        ("::progress 42%", 0.42, ""),
        ("::progress   1  done ", 1.0, "done"),
        ("::progress 0", 0.0, ""),
        ("::progress .5", 0.5, ""),
        ("::progress 1e-05 begun", 0.00001, "begun"),
        ("::progress 100% a\x00b", 1.0, "a␀b"),
        (BAR, 0.42, "Loading"),
        ("  7%|7         | 7.00/100 [00:00<?, ?B/s]", 0.07, ""),
        ("100%|\x1b[32m##########\x1b[0m| 3/3 [00:00<00:00, 11.6it/s, a=[1]] ", 1.0, ""),
        ("two words: more:   0%|          | 0/3 [00:00<?, ?it/s]", 0.0, "two words: more"),
    ],
)
def test_progress_is_a_share_with_a_message(line: str, share: float, message: str) -> None:
    assert recognise(line) == Fact("progress", "", share, message)


def test_a_long_message_is_shortened() -> None:
    fact = recognise("::progress 0.5 " + "x" * 1000)
    assert fact is not None
    assert fact.text == "x" * 200


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("::metric rows 1200000", "rows", 1_200_000),
        ("::metric  loss.train-1  -0.25", "loss.train-1", -0.25),
        ("::metric seen 1e3", "seen", 1000.0),
        ("::metric huge " + "9" * 300, "huge", float("9" * 300)),
    ],
)
def test_a_metric_is_a_name_and_a_finite_number(line: str, name: str, value: float) -> None:
    fact = recognise(line)
    assert fact == Fact("metric", name, value, "")
    assert type(fact.value) is type(value)


@pytest.mark.parametrize("kind", ["result", "cell"])
def test_a_result_and_a_cell_are_any_json(kind: str) -> None:
    for value in ({"rows": [1, 2.5, None, True, "é"]}, [], "text", 7, None):
        text = json.dumps(value)
        assert recognise(f"::{kind} {text}") == Fact(kind, "", value, text)


def test_json_holds_nothing_that_a_database_refuses() -> None:
    fact = recognise('::result {"a\\u0000": ["\\ud800", "x"]}')
    assert fact is not None
    assert fact.value == {"a␀": ["�", "x"]}


@pytest.mark.parametrize(
    "line",
    [
        "",
        "::",
        "::progress",
        "::progress half",
        "::progress 1.1",
        "::progress -0.1",
        "::progress 101%",
        "::progress nan",
        "::progress 1e999",
        "::progress ٠",
        "::progress 0.5more",
        " ::progress 0.5",
        "::Progress 0.5",
        "::progress\t0.5",
        "::metric rows",
        "::metric 1 2",
        "::metric rows nan",
        "::metric rows 1e999",
        "::metric rows 1_000",
        "::metric rows 1 2",
        f"::metric {'n' * 65} 1",
        "::result",
        "::result {",
        "::result NaN",
        "::result [1e999]",
        "::result " + "9" * 5000,
        "::result " + "[" * 200 + "]" * 200,
        "::result " + "[" * 60_000,
        f'::result "{"x" * 65536}"',
        "::unknown 1",
        "::group::",
        "std::vector 100%| x",
        "42%|",
        "42%|####",
        "42%|####| 42/100",
        "42%|####| 42/100 [00:01<00:0",
        "142%|####| 142/100 [00:01<00:02]",
        "in: 50%|#####     | 1/2 [00:00<00:00, 182kB/s]\x1b[A",
    ],
)
def test_a_malformed_fact_is_just_text(line: str) -> None:
    assert recognise(line) is None


@pytest.mark.parametrize(
    "line", ["1%|" * 20_000, "1%|" + "x| 1/1 [" + "<" * 65_000, "1%|| 1/1 [<" + "] " * 30_000 + "x"]
)
def test_no_line_takes_long_to_be_found_just_text(line: str) -> None:
    assert recognise(line) is None


@given(st.text() | st.text().map("::result {}".format) | st.text().map("1%|| 1/1 [<]{}".format))
def test_any_text_may_be_looked_at(line: str) -> None:
    recognise(line)


# Lines in a stream of bytes


def passed(*pieces: bytes) -> tuple[bytes, list[Fact]]:
    """Return the bytes that stay and the facts."""
    lines = Lines()
    items = [item for piece in pieces for item in lines.feed(piece)] + list(lines.close())
    stay = b"".join(item for item in items if isinstance(item, bytes))
    return stay, [item for item in items if isinstance(item, Fact)]


def test_lines_of_facts_stay_and_cells_are_taken_out() -> None:
    stay, facts = passed(b"a\n::metric n 1\n::cell {}\nb\n::progress 1\r::cell [1]\r\nend")
    assert stay == b"a\n::metric n 1\nb\n::progress 1\r\nend"
    assert [fact.kind for fact in facts] == ["metric", "cell", "progress", "cell"]


def test_facts_and_text_come_in_their_order() -> None:
    items = list(Lines().feed(b"a\n::cell 1\n::cell 2\nb\n"))
    assert items == [b"a\n", Fact("cell", "", 1, "1"), Fact("cell", "", 2, "2"), b"b\n"]


def test_bytes_without_facts_pass_as_they_are() -> None:
    data = b"std::vector | 42 %\n" * 100
    (item,) = Lines().feed(data)
    assert item is data


def test_the_last_line_needs_no_end() -> None:
    assert passed(b"::result 1")[1] == [Fact("result", "", 1, "1")]
    assert passed(b"::cell 1") == (b"", [Fact("cell", "", 1, "1")])
    assert passed(b"::cell {") == (b"::cell {", [])


def test_only_what_may_be_a_cell_is_held_back() -> None:
    lines = Lines()
    assert list(lines.feed(b"::ce")) == []
    assert list(lines.feed(b"remony")) == [b"::ceremony"]
    assert list(lines.feed(b"\n::progress 0")) == [b"\n", b"::progress 0"]
    assert list(lines.feed(b".5")) == [b".5"]
    assert list(lines.feed(b"\n")) == [b"\n", Fact("progress", "", 0.5, "")]


def test_a_line_that_is_too_long_is_no_fact_and_is_not_kept() -> None:
    long = b'::cell "' + b"x" * LONGEST_LINE + b'"\n'
    assert passed(long, b"::cell 1\n") == (long, [Fact("cell", "", 1, "1")])
    assert passed(long[:50_000], long[50_000:], b"::cell 1\n")[0] == long
    lines = Lines()
    for _ in range(100):
        list(lines.feed(b"%|x" * 20_000))
    assert len(lines._line) == LONGEST_LINE + 1


def test_a_bar_is_seen_before_it_moves_and_told_once() -> None:
    lines, bar = Lines(), BAR.encode()
    assert lines.peek() is None
    list(lines.feed(b"\r" + bar[:30]))
    assert lines.peek() is None
    list(lines.feed(bar[30:]))
    fact = Fact("progress", "", 0.42, "Loading")
    assert lines.peek() == fact
    assert lines.peek() is None
    assert list(lines.feed(b"\r")) == [b"\r"]
    list(lines.feed(bar))
    assert lines.peek() == fact


TOLD = [
    b"::cell {}",
    b"::cell ",
    b"::cell",
    b"::progress 0.5 x",
    b"::metric a 1",
    b"::result [1]",
    b"::",
    b":",
    b"\n",
    b"\r",
    b"%|",
    BAR.encode(),
    b"\xff",
    b"a",
]


def by_lines(data: bytes) -> tuple[bytes, list[Fact]]:
    """Look at one line after the other."""
    stay, facts, start = b"", [], 0
    ends = [at + 1 for at, byte in enumerate(data) if byte in b"\r\n"]
    for end in [*ends, len(data)]:
        line, start = data[start:end], end
        fact = recognise(line.rstrip(b"\r\n").decode("utf-8", "replace"))
        facts += [fact] if fact else []
        stay += b"" if fact and fact.kind == "cell" else line
    return stay, facts


@given(st.lists(st.sampled_from(TOLD), max_size=20), st.lists(st.integers(0, 200), max_size=9))
@example([b"::cell {}", b"\n", b"\n", b"::cell {}"], [3, 10, 11])
@example([b"a", b"\n", b":"], [])
def test_the_facts_are_the_same_wherever_the_stream_is_cut(
    told: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(told)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert passed(*(data[start:end] for start, end in pairwise(edges))) == by_lines(data)
