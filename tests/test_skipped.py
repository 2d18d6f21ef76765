"""Files that are not read: noted where files are listed, reported once."""

from pathlib import Path

import pytest

from volo.skipped import collect_skipped, describe_skipped, note_skipped, only_skipped

HEIC = ".heic (pip install pillow-heif)"


def test_files_of_several_listings_are_collected_and_each_counts_once():
    with collect_skipped() as skipped:
        note_skipped({Path("a/1.heic"): HEIC})
        note_skipped({Path("a/1.heic"): HEIC, Path("a/2.heic"): HEIC, Path("b"): "other"})
    assert describe_skipped(skipped) == f"3 files skipped: 2 {HEIC}, 1 other; the first: a/1.heic"


def test_without_a_collector_each_listing_warns():
    with pytest.warns(UserWarning, match=r"1 file skipped: 1 \.heic \(pip install pillow-heif\); a/1\.heic"):
        note_skipped({Path("a/1.heic"): HEIC})
    note_skipped({})


def test_an_inner_collector_keeps_its_files_from_the_outer_one():
    with collect_skipped() as outer:
        with collect_skipped() as inner:
            note_skipped({Path("1.heic"): HEIC})
        assert not outer
    assert only_skipped(inner) == f", only 1 {HEIC}"
    assert only_skipped(outer) == ""
