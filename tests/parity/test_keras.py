"""Weights written by keras_cv_attention_models itself give its logits here.

It needs TensorFlow below 2.16, which wants an older numpy than this project: ``VOLO_KERAS_PYTHON`` names the Python of
an environment with ``pip install keras-cv-attention-models 'tensorflow-cpu<2.16'``.
"""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from volo.models import load_model

WRITE = """
import sys
import numpy as np
from keras_cv_attention_models import volo

model = volo.VOLO_d1(input_shape=(64, 64, 3), num_classes=7, pretrained=None)
rng = np.random.default_rng(0)
for layer in model.layers:
    if "fold" not in layer.name:  # a fixed kernel
        changed = []
        for variable, value in zip(layer.weights, layer.get_weights()):
            value = value + (value.ndim == 1) * 0.1 * rng.standard_normal(value.shape)
            changed.append(np.abs(value) if "moving_variance" in variable.name else value)
        layer.set_weights(changed)
images = rng.standard_normal((2, 64, 64, 3)).astype("float32")
np.savez(sys.argv[2], images=images, logits=model.predict(images, verbose=0))
model.save_weights(sys.argv[1])
"""


@pytest.mark.slow
def test_keras_own_file_gives_keras_logits(tmp_path):
    python = os.environ.get("VOLO_KERAS_PYTHON", sys.executable)
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": ""}
    if subprocess.run(
        [python, "-c", "import keras_cv_attention_models"], env=environment, capture_output=True
    ).returncode:
        pytest.skip("keras_cv_attention_models is not installed; VOLO_KERAS_PYTHON names a Python that has it")
    weights, record = tmp_path / "volo.h5", tmp_path / "record.npz"
    subprocess.run([python, "-c", WRITE, str(weights), str(record)], env=environment, check=True, capture_output=True)
    said = np.load(record)
    with torch.no_grad():
        logits = load_model(weights).model(torch.from_numpy(said["images"]).permute(0, 3, 1, 2))
    assert said["logits"].std() > 0.1
    assert_close(logits, torch.from_numpy(said["logits"]), atol=2e-5, rtol=0)
