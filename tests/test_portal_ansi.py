"""Output as a terminal shows it, and nothing that a page would take for its own."""

from __future__ import annotations

import pytest

from jobkit.clock import stopwatch
from portal.ansi import Pen, changed, to_html


def html(text: str) -> str:
    return str(to_html(text)[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x1b[0m plain", '<span class="ink-1">red</span> plain'),
        ("\x1b[1;92;44mx", '<span class="ink-10 ground-4 bold">x</span>'),
        ("\x1b[38;5;196mx\x1b[39my", '<span class="ink-1">x</span>y'),
        ("\x1b[38;2;255;255;250mx", '<span class="ink-15">x</span>'),
        ("\x1b[48:5:232mx", '<span class="ground-0">x</span>'),
        ("\x1b[mx\x1b[999m\x1b[38m\x1b[;my", "xy"),
        ("a <b onclick='x'>&amp;", "a &lt;b onclick=&#39;x&#39;&gt;&amp;amp;"),
        ("\x1b[31m<script>\x1b[0m", '<span class="ink-1">&lt;script&gt;</span>'),
        ("\x1b]0;title\x07x\x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\", "xlink"),
        ("\x1b[2J\x1b[10;20Hx\x1b[?25l\x00\x07\x9by", "xy"),
        ("cut off \x1b[3", "cut off "),
        (" 10%\r 50%\r100%\ndone\r\nnext\r", "100%\ndone\r\nnext\r".replace("\r", "")),
    ],
)  # fmt: skip
def test_what_a_terminal_understands_becomes_classes_or_nothing(text: str, expected: str) -> None:
    assert html(text).replace("\r", "") == expected


def test_marks_end_one_by_one() -> None:
    written = html("\x1b[3;4mx\x1b[23my")
    first, second = '<span class="italic underlined">x</span>', '<span class="underlined">y</span>'
    assert written == first + second


def test_the_pen_goes_on_in_what_is_printed_next() -> None:
    _, pen = to_html("\x1b[1;31mbegins")
    assert pen.code == "1;31"
    again = changed(Pen(), pen.code)
    assert again == pen
    assert str(to_html("goes on", again)[0]) == '<span class="ink-1 bold">goes on</span>'
    assert changed(Pen(), Pen(ink=12, ground=9, is_faint=True).code) == Pen(12, 9, is_faint=True)


def test_a_line_without_an_end_and_a_sequence_of_numbers_without_end_take_no_time() -> None:
    began = stopwatch()
    assert to_html("x" * 200_000)[0] == "x" * 200_000
    assert to_html("x\r" * 100_000 + "end")[0] == "end"
    assert to_html(f"\x1b[{'1' * 100_000}mred")[0] == "red"
    assert to_html(f"\x1b[{'1;' * 100_000}31mbold")[0] == '<span class="bold">bold</span>'
    assert stopwatch() - began < 5
