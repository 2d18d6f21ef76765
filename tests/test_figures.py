import os
import subprocess
import sys
import warnings

import pytest
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager, get_font
from PIL import Image

from volo import figures
from volo.figures import save_figure

#: A character that no font has: the first of those for private use in the last plane.
NOWHERE = "\U00100000"


def title(text):
    figure = Figure(figsize=(2, 1))
    figure.text(0.1, 0.4, text, fontsize=30)
    return figure


def characters(family):
    return get_font(next(font.fname for font in fontManager.ttflist if font.name == family)).get_charmap().keys()


def test_characters_that_the_font_lacks_are_drawn_in_another(tmp_path):
    """With the fonts of matplotlib, of which DejaVu Sans is the usual one."""
    lacking = chr(0x24B6)  # a letter in a circle
    assert ord(lacking) in characters("STIXGeneral")
    assert ord(lacking) not in characters("DejaVu Sans")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_figure(title(lacking), tmp_path / "fallback.png")
    expected = title(lacking)
    expected.texts[0].set_fontfamily("STIXGeneral")
    expected.savefig(tmp_path / "stix.png", dpi=120)
    one, other = (Image.open(tmp_path / name).tobytes() for name in ("fallback.png", "stix.png"))
    assert one == other


def test_characters_that_no_font_has_are_one_warning(tmp_path):
    figures._warn_of_boxes.cache_clear()
    with pytest.warns(UserWarning, match="no font on this machine has some characters"):
        save_figure(title(f"a{NOWHERE}"), tmp_path / "a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_figure(title(f"b{NOWHERE}"), tmp_path / "b.png")
    assert (tmp_path / "b.png").exists()


def test_other_warnings_are_passed_on(tmp_path, monkeypatch):
    figure, original = title("a"), Figure.savefig

    def savefig(self, *arguments, **options):
        warnings.warn("something else", stacklevel=1)
        return original(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    with pytest.warns(UserWarning, match="something else"):
        save_figure(figure, tmp_path / "a.png")


def test_the_commands_say_nothing_of_matplotlibs_cache():
    code = "from volo.cli.ui.terminal import prepare_streams; prepare_streams(); import matplotlib.pyplot"
    home = {"HOME": os.devnull + "/home", "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": ""}
    process = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **home}, capture_output=True, text=True, check=True
    )
    assert process.stderr == ""
