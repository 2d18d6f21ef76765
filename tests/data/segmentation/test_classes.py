"""Classes files, colors, and the classes of public data sets."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volo.data import IGNORE, MaskClasses, default_colors, hex_color, parse_color, read_classes
from volo.data.segmentation.classes import known_classes


def written(tmp_path, text):
    path = tmp_path / "classes.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_classes(path)


def test_a_line_is_a_name_with_an_optional_color(tmp_path):
    classes = written(
        tmp_path, "\ufeff# what is there\n\nsky #4682b4\ntraffic light 250, 170 30\r\n  building  \ncafé;#FFffFF"
    )
    assert classes.names == ("sky", "traffic light", "building", "café")
    assert classes.colors[:2] == ((70, 130, 180), (250, 170, 30))
    assert classes.colors[3] == (255, 255, 255)
    assert classes.values == {0: 0, 1: 1, 2: 2, 3: 3, 255: IGNORE}


def test_a_line_without_a_value_has_the_next_value(tmp_path):
    classes = written(tmp_path, "7: road\nsidewalk\n11:building #464646\n0: ignore\n300 : far")
    assert classes.names == ("road", "sidewalk", "building", "far")
    assert classes.values == {7: 0, 8: 1, 11: 2, 0: IGNORE, 300: 3, 255: IGNORE}
    assert classes.lookup[[7, 8, 11, 300, 0, 255]].tolist() == [0, 1, 2, 3, IGNORE, IGNORE]
    assert classes.lookup[[1, 9, 65535, -1]].tolist() == [-1] * 4


def test_lines_of_one_name_are_one_class(tmp_path):
    classes = written(tmp_path, "building #800000\nroad #804080\nbuilding #c00080\nignore #000000\n")
    assert classes.names == ("building", "road")
    assert classes.colors == ((128, 0, 0), (128, 64, 128))
    assert classes.values == {0: 0, 1: 1, 2: 0, 3: IGNORE, 255: IGNORE}
    assert classes.codes == {(128, 0, 0): 0, (128, 64, 128): 1, (192, 0, 128): 0, (0, 0, 0): IGNORE}


def test_255_is_a_class_if_a_line_has_it(tmp_path):
    assert written(tmp_path, "0: background\n255: cell").values == {0: 0, 255: 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"classes\.txt: 2 to 255 classes are needed, not 0: none"),
        ("sky\n", r"classes\.txt: 2 to 255 classes are needed, not 1: sky"),
        ("sky\nsky\nignore", r"2 to 255 classes are needed, not 1: sky"),
        ("\n".join(f"c{i}" for i in range(256)), r"2 to 255 classes are needed, not 256: c0, c1, c2"),
        ("1: sky\n1: road", r"classes\.txt: two lines have the value 1; every value"),
        ("70000: sky\nroad", r"the largest value of a mask is 65535, not 70001"),
        ("sky\nroad 1 2 256", r"line 2 of .*classes\.txt: a color must be #rrggbb or three numbers from 0 to 255"),
        ("sky\nro\x07ad", r"ro\\x07ad cannot be the name of a class"),
        (b"sky\nr\xffoad", r"classes\.txt is not UTF-8; save it as UTF-8"),
    ],
)
def test_invalid_files_are_reported(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        written(tmp_path, text)


def test_reading_by_colors_needs_a_different_color_for_every_class(tmp_path):
    with pytest.raises(
        ValueError, match="by colors: no color is given for road; write 'road #rrggbb' into the classes file"
    ):
        _ = written(tmp_path, "sky #0000ff\nroad").codes
    with pytest.raises(ValueError, match="two classes have the color #0000ff"):
        _ = written(tmp_path, "sky #0000ff\nroad 0 0 255").codes


NAMES = st.text(st.characters(codec="utf-8", categories=["L", "P"], exclude_characters=":#;,"), min_size=1).filter(
    lambda name: name != "ignore"
)
COLORS = st.tuples(*[st.integers(0, 255)] * 3)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(NAMES, COLORS), min_size=2, max_size=6, unique_by=lambda line: line[0]))
def test_a_written_file_is_read_back(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "classes.txt"
    path.write_text("".join(f"{name} {hex_color(color)}\n" for name, color in lines), encoding="utf-8")
    classes = read_classes(path)
    assert list(zip(classes.names, classes.colors, strict=True)) == lines
    assert MaskClasses.named(classes.names, classes.colors) == classes


@given(COLORS)
def test_colors_are_written_and_read(color):
    assert parse_color(hex_color(color)) == parse_color("{} {} {}".format(*color)) == color


def test_default_colors_are_easy_to_tell_apart():
    nearest = [
        min(np.linalg.norm(np.subtract(a, b)) for a, b in itertools.combinations(default_colors(count), 2))
        for count in (12, 32, 150)
    ]
    assert nearest[0] > 60
    assert nearest[1] > 25
    assert len(set(default_colors(150))) == 150
    assert default_colors(150)[:12] == default_colors(12)


def test_default_colors_differ_from_the_colors_in_the_file():
    first = default_colors(1)[0]
    colors = MaskClasses.named("ab", ()).colors
    assert colors == default_colors(2)
    mixed = MaskClasses(tuple(MaskClasses.named("ab", (first, first)).lines[:1]) + MaskClasses.named("xb").lines[1:])
    assert mixed.colors == (first, default_colors(2)[1])


def test_the_classes_of_public_data_sets():
    ade20k, cityscapes, camvid = (known_classes(name) for name in ("ade20k", "cityscapes", "camvid"))
    assert (len(ade20k.names), ade20k.names[0], ade20k.names[12], ade20k.names[149]) == (150, "wall", "person", "flag")
    assert ade20k.values == {0: IGNORE, 255: IGNORE, **{value: value - 1 for value in range(1, 151)}}
    # The 19 ids that are judged and the indices of training, as the benchmark gives them; everything else is void.
    judged = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert cityscapes.values == {
        value: judged.index(value) if value in judged else IGNORE for value in (*range(34), 255)
    }
    assert cityscapes.names[:3] + cityscapes.names[-2:] == ("road", "sidewalk", "building", "motorcycle", "bicycle")
    assert cityscapes.renumbered().values == {**{value: value for value in range(19)}, 255: IGNORE}
    assert cityscapes.renumbered().colors == cityscapes.colors
    assert camvid.names[:4] + camvid.names[-1:] == ("sky", "building", "pole", "road", "bicyclist")
    assert [camvid.values[value] for value in range(12)] == [*range(11), IGNORE]
    assert len(camvid.codes) == 32
    assert camvid.codes[(64, 192, 0)] == camvid.names.index("building")  # a wall
