import pytest

from volo.data.class_names import file_or_names


def test_a_file_names_and_a_tuple(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("cat\ndog\n")
    assert file_or_names(str(path)) == path
    assert file_or_names("cat, dog") == file_or_names("[cat,dog]") == file_or_names(("cat", "dog")) == ("cat", "dog")


def test_one_word_that_is_not_a_file_is_an_error():
    with pytest.raises(ValueError, match=r"there is no classes file nix; give a text file .* cat,dog"):
        file_or_names("nix")
