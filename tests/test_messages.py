"""Text from elsewhere, made safe to print."""

import os
import shlex
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volo.messages import elide, printable, quoted, reason_of


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x1b]52;c;aGk=\x1b\\", "\\x1b]52;c;aGk=\\x1b\\"),
        ("\x9b31m", r"\x9b31m"),
        ("a\nb\rc\td\0", r"a\nb\rc\td\x00"),
        ("abc\u202ecba\u2066", r"abc\u202ecba\u2066"),
        ("cat\U000e0041\U000e0042", r"cat\U000e0041\U000e0042"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("line\u2028paragraph\u2029", r"line\u2028paragraph\u2029"),
        ("alone\ud800", r"alone\ud800"),
        (os.fsdecode(b"not \xff text"), r"not \xff text"),
        ("\udcc3\udca9", "é"),  # a name of UTF-8 bytes, as Python reads it in an ASCII locale
        ("Katze, кот, 猫, القط, गाय", "Katze, кот, 猫, القط, गाय"),
        ("می\u200cخواهم 👩\u200d🔬 a\u3000b\u00a0c", "می\u200cخواهم 👩\u200d🔬 a\u3000b\u00a0c"),
        ("back\\slash", "back\\slash"),
    ],
)
def test_what_could_steer_a_terminal_is_escaped_and_all_scripts_stay(text, shown):
    assert printable(text) == shown


@given(st.text(st.characters()))
def test_nothing_harmful_is_left_and_twice_is_once(text):
    shown = printable(text)
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
    assert printable(shown) == shown


def test_a_long_name_is_short_and_safe():
    assert len(elide("\x1b" * 100, 24)) == 24
    assert "\x1b" not in elide("\x1b" * 100, 24)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_quoted_path_is_one_word_of_a_shell(path):
    assert shlex.split(f"volo train --resume {quoted(path)}") == ["volo", "train", "--resume", path]


def test_ordinary_paths_are_not_quoted():
    assert quoted(Path("runs/photos-volo_d1")) == "runs/photos-volo_d1"
    assert quoted("my runs/été 1") == "'my runs/été 1'"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("\n  no such operator \n more"), "no such operator"),
        (
            RuntimeError("Exception from src/a.cpp:53:\nCheck 'no' failed at b.cpp:4:\nthe shapes differ\n"),
            "the shapes differ",
        ),
        (KeyError(), "KeyError"),
    ],
)
def test_the_reason_is_the_first_line_that_says_something(error, reason):
    assert reason_of(error) == reason
