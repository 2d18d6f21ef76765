import os

import pytest
from colors import make_images

# Idle OpenMP threads sleep. By default they spin, and where several processes share the cores, as training with loading
# processes does, they take the time of the threads that compute. OpenMP reads this when PyTorch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def make_train_and_val(root):
    make_images(root / "train", 8, seed=0)
    make_images(root / "val", 4, seed=1)
    return root


@pytest.fixture
def image_folder(tmp_path):
    """A folder with train (3 × 8 images) and val (3 × 4 images)."""
    return make_train_and_val(tmp_path / "colors")


@pytest.fixture(scope="session")
def kept_image_folder(tmp_path_factory):
    """The same for tests that share it, and so change nothing in it."""
    return make_train_and_val(tmp_path_factory.mktemp("kept") / "colors")
