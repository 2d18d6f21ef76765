"""A small trained model, and its int8 file for ONNX Runtime."""

import pytest
from exported import trained

from volo.data.embedded import photo_folder
from volo.export.pipeline import export_model


@pytest.fixture(scope="session")
def micro(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("export") / "micro")


@pytest.fixture(scope="session")
def int8(micro):
    """The export and its steps."""
    steps = []
    photos = [str(photo_folder())]
    made = export_model(
        micro,
        to="onnx",
        output=micro / "int8.onnx",
        precision="int8",
        calibration=photos,
        images=photos,
        on_step=steps.append,
    )
    return made, steps
