"""Models and data that tests of several commands use."""

import pytest
from commands import save_classifier, volo
from scenes import make_scenes
from segments import save_untrained

from volo.export.pipeline import export_model


@pytest.fixture
def model_folder(tmp_path):
    """An untrained classifier of the three colors."""
    return save_classifier(tmp_path / "model")


@pytest.fixture(scope="session")
def segmenter(tmp_path_factory):
    """An untrained segmentation model, whose windows have 32 × 48 pixels."""
    return save_untrained(tmp_path_factory.mktemp("segmenter") / "model")


@pytest.fixture(scope="session")
def exported_segmenter(segmenter):
    return export_model(segmenter, to="torch-export", output=segmenter / "model.pt2").path


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """Three validation images with masks."""
    return make_scenes(tmp_path_factory.mktemp("scenes"), [("val", 3)])


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory):
    return save_classifier(
        tmp_path_factory.mktemp("classifier") / "model", ("a", "b"), dims=(16, 32), depths=(1, 1, 1, 1), heads=(2, 2)
    )


@pytest.fixture
def refused(segmenter, exported_segmenter, tiny_classifier, scenes, tmp_path, capsys):
    """Run a command that fails. Returns its only line of output; the command writes no file."""
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()
    words = {
        "MODEL": segmenter, "EXPORTED": exported_segmenter, "CLASSIFIER": tiny_classifier, "DATA": scenes,
        "IMAGE": scenes / "val/images/0.png", "FILE": tmp_path / "file", "EMPTY": tmp_path / "empty",
        "NEW": tmp_path / "new", "NEW.csv": tmp_path / "new.csv", "GONE": tmp_path / "gone",
    }  # fmt: skip

    def run(verb, command):
        assert volo(verb, *(words.get(word, word) for word in command.split())) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert len(captured.err.splitlines()) == 1
        assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]
        return captured.err

    return run
