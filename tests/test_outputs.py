"""Which files may be replaced, and which folders are marked as our own."""

import re

import pytest
from PIL import Image

from volo.data import find_images, open_splits
from volo.files import TEMPORARY_PREFIX, atomic_write, remove_temporaries
from volo.outputs import (
    MARK_FILE,
    SAVED_MODEL,
    check_model_folder,
    check_output_folder,
    check_outputs,
    is_own_folder,
    mark_folder,
    own_folder,
)
from volo.skipped import collect_skipped


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)
    return path


def refused(message):
    return pytest.raises(ValueError, match=re.escape(message))


def test_a_new_file_may_be_written_even_into_a_new_folder(tmp_path):
    check_outputs([tmp_path / "a" / "b.csv"], overwrite=False)
    assert not list(tmp_path.iterdir())


def test_a_file_that_exists_is_replaced_only_if_asked(tmp_path):
    (tmp_path / "b.csv").touch()
    with refused("b.csv exists already; name another --output, or add --overwrite"):
        check_outputs([tmp_path / "a.csv", tmp_path / "b.csv"], overwrite=False)
    check_outputs([tmp_path / "a.csv", tmp_path / "b.csv"], overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("given", ["x.bin", "./x.bin", "link"])
def test_an_input_is_never_replaced(tmp_path, monkeypatch, given, overwrite):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.bin").touch()
    (tmp_path / "link").symlink_to("x.bin")
    (tmp_path / "hard").hardlink_to(tmp_path / "x.bin")
    for output in ("x.bin", "link", "hard"):
        with refused(f"{output} is an input of this command and is not overwritten"):
            check_outputs([tmp_path / output], overwrite=overwrite, inputs=[given])


def test_an_image_of_the_data_is_never_replaced_but_a_table_beside_it_may_be(tmp_path):
    photo, table = picture(tmp_path / "cat" / "0.PNG"), tmp_path / "cat" / "mine.csv"
    table.touch()
    with refused("0.PNG is among the images and is not overwritten"):
        check_outputs([photo], overwrite=True, inputs=[tmp_path])
    check_outputs([table], overwrite=True, inputs=[tmp_path])


def test_names_that_are_no_paths_are_no_inputs(tmp_path):
    check_outputs([tmp_path / "a"], overwrite=False, inputs=["hf-hub:org/name", "", "x" * 5000, "a\0b", "*.jpg"])


@pytest.mark.parametrize("name", ["train.json", "results.json", "config.json", "summary.png", "checkpoints/last.ckpt"])
def test_files_of_a_run_are_never_replaced(tmp_path, name):
    for path in (tmp_path / "train.json", tmp_path / name):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with refused("belongs to a training run and is not overwritten"):
        check_outputs([tmp_path / name], overwrite=True)


def test_a_person_s_file_and_a_new_folder_in_a_run_are_free(tmp_path):
    for name in ("train.json", "mine.csv"):
        (tmp_path / name).touch()
    check_outputs([tmp_path / "mine.csv"], overwrite=True)
    check_output_folder(tmp_path / "judged", ["results.json"], overwrite=False)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "pytorch_model.bin", "README.md"])
def test_files_of_a_model_are_never_replaced(tmp_path, name):
    for path in (tmp_path / "config.json", tmp_path / name):
        path.touch()
    with refused(f"{name} belongs to a model and is not overwritten"):
        check_outputs([tmp_path / name], overwrite=True)


def test_pictures_join_nobody_s_images(tmp_path):
    picture(tmp_path / "0.jpg")
    with refused("holds images, which the written pictures would join"):
        check_output_folder(tmp_path, ["check.json"], overwrite=False)
    check_output_folder(tmp_path, ["check.json"], overwrite=True)
    with own_folder(tmp_path, "data check"):
        pass
    assert not is_own_folder(tmp_path)  # else its images would not be read any more


def test_our_own_pictures_are_no_images_of_a_data_set_unless_their_folder_is_named(tmp_path):
    for name in ("cat", "dog"):
        for number in range(2):
            picture(tmp_path / name / f"{number}.png")
    with own_folder(tmp_path / "report", "data check"):
        picture(tmp_path / "report" / "contact_sheets" / "0.png")
    with own_folder(tmp_path / "cat" / "report", "eval"):
        picture(tmp_path / "cat" / "report" / "mistakes.png")
    with collect_skipped() as skipped:
        images = open_splits(str(tmp_path))["all"]()
        assert len(find_images([str(tmp_path)])) == 4
    assert images.class_names == ("cat", "dog")
    assert len(images.labels) == 4
    assert {path.name for path in skipped} >= {"mistakes.png"}
    assert len(find_images([str(tmp_path / "report")])) == 1
    assert (tmp_path / "report" / MARK_FILE).read_text().startswith("volo data check wrote this folder.")


def test_an_error_leaves_no_folder_and_no_mark(tmp_path):
    with pytest.raises(RuntimeError), own_folder(tmp_path / "a" / "b", "eval"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_model_is_saved_again_only_where_it_was_saved(tmp_path):
    names = ("config.json", "README.md")
    check_model_folder(tmp_path / "new", names)
    (tmp_path / "README.md").write_text("my project")
    (tmp_path / "notes").touch()
    with refused("README.md exists already; save the model into another folder"):
        check_model_folder(tmp_path, names)
    mark_folder(tmp_path, SAVED_MODEL)
    check_model_folder(tmp_path, names)


def test_no_file_of_a_person_is_taken_for_a_temporary_one(tmp_path):
    theirs = [".env.template", ".notes.markdown", ".git.settings", ".vimrc.personal", "x.tmp", ".x.abcd1234"]
    for name in (*theirs, f"{TEMPORARY_PREFIX}model.safetensors.abcd1234"):
        (tmp_path / name).touch()
    with atomic_write(tmp_path / "whole") as temporary:
        assert temporary.name.startswith(TEMPORARY_PREFIX)
    remove_temporaries(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*theirs, "whole"])
