"""Files about an evaluation."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from volo.data import FileImages
from volo.evaluation import report
from volo.evaluation.classification import Evaluation
from volo.evaluation.report import check_writable_folder, write_evaluation

FILES = {"results.json", "per_class.csv", "predictions.csv", "confusion.png", "reliability.png", "mistakes.png"}
NAMES = ("ant", "bee", "cow", "dog", "emu", "fox", "gnu")


@pytest.fixture
def images(tmp_path):
    """Six images; the one at index 2 is missing in the evaluation, as if unreadable."""
    paths = [tmp_path / "data" / f"{number}.png" for number in range(6)]
    paths[0].parent.mkdir()
    for number, path in enumerate(paths):
        Image.new("RGB", (30 + number, 20), (40 * number, 90, 0)).save(path)
    return FileImages(paths, [0, 0, 0, 1, 1, 5], NAMES)


@pytest.fixture
def evaluation():
    return Evaluation(
        class_names=NAMES,
        indices=np.array([0, 1, 3, 4, 5]),
        labels=np.array([0, 0, 1, 1, 5]),
        ranked=np.array([[0, 1, 2, 3, 4], [1, 0, 2, 3, 4], [1, 0, 2, 3, 4], [0, 2, 3, 4, 6], [0, 2, 3, 4, 5]]),
        probability=np.array([0.9, 0.6, 0.5, 0.7, 0.4], np.float32),
        label_probability=np.array([0.9, 0.3, 0.5, 0.05, 0.1], np.float32),
        problems=("cannot read image 2.png",),
    )


def rows(path):
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def test_all_files_are_written_with_the_scores(evaluation, images, tmp_path):
    folder = tmp_path / "new" / "folder"
    write_evaluation(evaluation, images, folder, more={"epochs": 3})
    assert {path.name for path in folder.iterdir()} == FILES
    for name in FILES:
        assert (folder / name).stat().st_mode & 0o444 == 0o444 or name.startswith(".")

    results = json.loads((folder / "results.json").read_text())
    assert (results["images"], results["unreadable"], results["classes"]) == (5, 1, 7)
    assert (results["classes_without_images"], results["epochs"]) == (4, 3)
    assert (results["top1"], results["top5"]) == (0.4, 0.8)
    assert results["confused"][0] == {"true": "ant", "predicted": "bee", "images": 1}

    ant, bee, cow, *_, gnu = rows(folder / "per_class.csv")
    assert (ant["class"], ant["images"], ant["recall"], ant["mistaken_for"], ant["mistaken"]) == (
        "ant", "2", "0.500000", "bee", "1",
    )  # fmt: skip
    assert float(bee["precision"]) == 0.5
    assert (cow["images"], cow["precision"], cow["recall"], cow["f1"], cow["mistaken_for"]) == ("0", "", "", "", "")
    assert gnu["group"].isdigit()

    first, second, *_, last = rows(folder / "predictions.csv")
    assert first == {
        "path": str(images.paths[0]), "true": "ant", "predicted": "ant", "answer": "right",
        "probability": "0.900000", "true_probability": "0.900000",
        "top_2": "bee", "top_3": "cow", "top_4": "dog", "top_5": "emu",
    }  # fmt: skip
    assert (second["predicted"], second["answer"], second["true_probability"]) == ("bee", "wrong", "0.300000")
    assert (last["path"], last["true"], last["answer"]) == (str(images.paths[5]), "fox", "wrong")


@pytest.mark.parametrize("file", ["draw_confusion", "draw_mistakes", "_prediction_rows"])
def test_if_one_file_cannot_be_written_none_is(evaluation, images, tmp_path, monkeypatch, file):
    write_evaluation(evaluation, images, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def fail(*arguments):
        raise OSError("no space left on device")

    monkeypatch.setattr(report, file, fail)
    with pytest.raises(OSError, match="no space left"):
        write_evaluation(evaluation, images, tmp_path / "out", more={"epochs": 9})
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_an_image_deleted_after_the_evaluation_is_no_error(evaluation, images, tmp_path):
    images.paths[4].unlink()
    write_evaluation(evaluation, images, tmp_path / "out")
    assert (tmp_path / "out/mistakes.png").stat().st_size > 1000


def test_names_of_all_sorts_are_written_and_drawn(evaluation, tmp_path):
    names = ["caf\udce9.png", "$x_$.png", "a\nb.png", "猫.png", "c,d.png", f"{'long' * 60}.png"]
    paths = [tmp_path / "data" / name for name in names]
    paths[0].parent.mkdir()
    for path in paths:
        Image.new("L", (8, 8)).save(path, format="PNG")
    write_evaluation(evaluation, FileImages(paths, [0, 0, 0, 1, 1, 5], NAMES), tmp_path / "out")
    written = [row["path"] for row in rows(tmp_path / "out/predictions.csv")]
    assert written[0] == str(tmp_path / "data" / r"caf\xe9.png")  # as it is shown everywhere
    assert written[1:] == [str(paths[number]) for number in (1, 3, 4, 5)]


def test_a_path_below_a_file_is_an_error_before_anything_is_created(tmp_path):
    (tmp_path / "file").write_text("text")
    for folder in (tmp_path / "file", tmp_path / "file" / "sub" / "folder"):
        with pytest.raises(ValueError, match=r"cannot write into .*file is a file; name a folder"):
            check_writable_folder(folder)
    check_writable_folder(tmp_path / "new" / "one")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_without_permission_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(ValueError, match="is not writable; name another folder"):
        check_writable_folder(tmp_path / "new")
