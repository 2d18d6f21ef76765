"""ONNX files give the same outputs in older releases of ONNX Runtime, and in the one of browsers."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from volo.export.pipeline import export_model
from volo.runtime.sessions import onnx_session

WEB = Path(__file__).parents[1] / "web"
#: The first release that the package supports, and later ones.
OLDER = ("1.20.1", "1.23.2", "1.30.0")
#: name of the file → its options, and the largest difference of an output (of up to 10): int8 rounds small differences
#: up to whole steps, and fp16 adds in another order.
FILES = {
    "int8": ({}, 0.2),
    "photos": ({"include_resize": True, "include_softmax": True}, 1e-5),
    "half": ({"precision": "fp16"}, 2e-2),
    "both": ({"dynamic": "both"}, 1e-4),
}
SCRIPT = """
import sys
import numpy as np
import onnxruntime
assert onnxruntime.__version__ == sys.argv[1], onnxruntime.__file__
for name in sys.argv[2:]:
    session = onnxruntime.InferenceSession(f"{name}.onnx", providers=["CPUExecutionProvider"])
    np.save(f"{name}-got.npy", session.run(["scores"], {"images": np.load(f"{name}.npy")})[0])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module")
def written(folder, int8, micro):
    """A function that writes a file, an input for it, and what the installed ONNX Runtime gives, each only once."""

    def write(name):
        path = folder / f"{name}.onnx"
        if path.exists():
            return path
        if name == "int8":
            shutil.copy(int8[0].path, path)
        else:
            export_model(micro, to="onnx", output=path, **FILES[name][0])
        random = np.random.default_rng(0)
        if name == "photos":
            images = random.integers(0, 256, (2, 40, 50, 3), dtype=np.uint8)
        else:
            images = random.standard_normal((2, 3, *((48, 40) if name == "both" else (32, 32))), dtype=np.float32)
        np.save(folder / f"{name}.npy", images)
        (scores,) = onnx_session(path, threads=1).run(["scores"], {"images": images})
        np.save(folder / f"{name}-expected.npy", scores)
        return path

    return write


def assert_agrees(folder, name, got):
    np.testing.assert_allclose(got, np.load(folder / f"{name}-expected.npy"), rtol=0, atol=FILES[name][1])


@pytest.mark.parametrize(
    "name", ["int8", *(pytest.param(name, marks=pytest.mark.slow) for name in FILES if name != "int8")]
)
def test_the_runtime_of_browsers(folder, written, name):
    if shutil.which("node") is None or not (WEB / "node_modules" / "onnxruntime-web").is_dir():
        pytest.skip("onnxruntime-web is not installed: npm install --prefix tests/web")
    path = written(name)
    images = np.load(folder / f"{name}.npy")
    images.tofile(folder / f"{name}.bin")
    words = [path, folder / f"{name}.bin", str(images.dtype), *map(str, images.shape)]
    done = subprocess.run(["node", WEB / "run.mjs", *words], check=True, capture_output=True, text=True)
    assert_agrees(folder, name, np.array(json.loads(done.stdout)).reshape(len(images), -1))


@pytest.mark.slow
@pytest.mark.parametrize("version", OLDER)
def test_older_releases(folder, written, version, request):
    target = request.config.cache.mkdir(f"onnxruntime-{version}")
    if not (target / "onnxruntime").is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target]
        done = subprocess.run([*pip, f"onnxruntime=={version}"], check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"pip cannot install onnxruntime {version}: {done.stderr.strip().splitlines()[-1]}")
    for name in FILES:
        written(name)
    subprocess.run(
        [sys.executable, "-c", SCRIPT, version, *FILES],
        check=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(target)},
    )
    for name in FILES:
        assert_agrees(folder, name, np.load(folder / f"{name}-got.npy"))
