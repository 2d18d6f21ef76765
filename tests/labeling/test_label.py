"""Labeling: the store holds the teacher's logits; each image is labeled once, after interruptions and in parallel."""

import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision.ops import roi_align

from volo.data import Preprocessing, open_training_data
from volo.data.token_labels.store import LABELED, UNREADABLE, TokenLabelStore
from volo.labeling import label as labeling
from volo.labeling.label import LabelOptions, fit_whole, label_images
from volo.labeling.teachers import load_teacher
from volo.models import create_model, save_model


@pytest.fixture
def teacher_folder(tmp_path):
    """A model folder of a VOLO with the three classes of the data, in another order."""
    torch.manual_seed(0)
    model = create_model("volo_micro_32", num_classes=3)
    preprocessing = {"size": [32, 32], "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
    folder = tmp_path / "teacher"
    folder.mkdir()
    names = ("red", "blue", "green")
    save_model(folder, model.config, model.state_dict(), class_names=names, preprocessing=preprocessing)
    return folder


@pytest.fixture
def setting(teacher_folder, image_folder, tmp_path):
    """The arguments of label_images: teacher, 24 images, path of the store, name of the data."""
    return (
        load_teacher(str(teacher_folder)),
        open_training_data(str(image_folder)),
        tmp_path / "labels",
        str(image_folder),
    )


def run(setting, out=None, **options):
    teacher, images, default, data = setting
    keywords = {name: options.pop(name) for name in ("batch_size", "workers", "on_batch") if name in options}
    return label_images(teacher, images, out or default, data=data, options=LabelOptions(**options), **keywords)


def expected(setting, index, *, fit="squeeze", flip=False):
    """Compute the logits of a single image, in the data's order of classes (blue, green, red)."""
    teacher, images, _, _ = setting
    image, pre = images.read(index), teacher.preprocessing
    pixels, (left, top, right, bottom) = fit_whole(image, pre, fit)
    batch = pre.normalize(torch.from_numpy(pixels).permute(2, 0, 1)[None])
    with torch.inference_mode():
        logits = teacher.model(batch)
        if flip:
            logits = (logits + teacher.model(batch.flip(3)).flip(2)) / 2
    if fit == "keep":
        box = torch.tensor([[0, 4 * left, 4 * top, 4 * right, 4 * bottom]])
        logits = roi_align(logits.permute(0, 3, 1, 2), box, (4, 4), aligned=True).permute(0, 2, 3, 1)
    return logits[0, ..., [1, 2, 0]]


@pytest.mark.parametrize("options", [{}, {"flip": True}, {"fit": "keep"}, {"fit": "keep", "flip": True}])
def test_the_store_holds_the_teachers_best_logits(setting, options):
    report = run(setting, top_k=2, batch_size=5, **options)
    assert (report.labeled, report.before, report.problems) == (24, 0, ())
    store = TokenLabelStore(setting[2])
    assert store.info.top_k == 2
    assert store.info.preprocessing["fit"] == options.get("fit", "squeeze")
    for index in range(24):
        labels, best = store.read(index), expected(setting, index, **options).topk(2, dim=-1)
        np.testing.assert_allclose(labels.scores, best.values, rtol=2e-3, atol=2e-4)
        np.testing.assert_array_equal(labels.classes, best.indices)


def test_a_kept_aspect_fills_part_of_the_square_with_all_of_the_image():
    image = Image.new("RGB", (40, 20), (255, 0, 0))
    pixels, box = fit_whole(image, Preprocessing(size=(16, 16), mean=(0.5, 0.5, 0.5), std=(1, 1, 1)), "keep")
    assert box == (0.0, 0.25, 1.0, 0.75)
    assert (pixels[4:12] == (255, 0, 0)).all()
    assert (pixels[:4] == 128).all()
    assert (pixels[12:] == 128).all()
    pixels, box = fit_whole(image, Preprocessing(size=(16, 16)), "squeeze")
    assert box == (0, 0, 1, 1)
    assert (pixels == (255, 0, 0)).all()


def test_labels_lie_where_the_object_is(setting):
    """A teacher that averages the colors of each cell labels both colored halves, squeezed or with kept aspect."""

    class Colors(torch.nn.Module):
        def forward(self, images):
            return F.avg_pool2d(images, 8).permute(0, 2, 3, 1) * 10

    teacher, images, out, data = setting
    half = np.zeros((20, 60, 3), np.uint8)
    half[:, :30, 2], half[:, 30:, 1] = 255, 255  # blue, then green
    for path in images.paths:
        Image.fromarray(half).save(path)
    object.__setattr__(teacher, "model", Colors())
    object.__setattr__(teacher, "class_name_lists", (("red", "green", "blue"),))
    for fit in ("squeeze", "keep"):
        run((teacher, images, out.with_name(fit), data), fit=fit)
        classes = TokenLabelStore(out.with_name(fit)).read(3).classes[..., 0]
        np.testing.assert_array_equal(classes, [[0, 0, 1, 1]] * 4)


def test_labeling_resumes_and_labels_no_image_twice(setting, monkeypatch):
    """Labeling stops in the third batch; the second run labels only the rest."""
    whole = setting[2].with_name("whole")
    run(setting, whole)

    class Stop(Exception):
        pass

    def stop(count, seen=[]):  # noqa: B006  # counts the batches
        seen.append(count)
        if len(seen) == 3:
            raise Stop

    with pytest.raises(Stop):
        run(setting, batch_size=5, on_batch=stop)
    assert (TokenLabelStore(setting[2]).states == LABELED).sum() == 15
    report = run(setting, batch_size=5)
    assert (report.labeled, report.before) == (9, 15)
    assert setting[2].read_bytes()[-900:] == whole.read_bytes()[-900:]
    assert run(setting).labeled == 0


LABEL = """
import os, signal, sys
from pathlib import Path
from volo.data import open_training_data
from volo.data.token_labels import writer
from volo.labeling.label import LabelOptions, label_images
from volo.labeling.teachers import load_teacher
writer.SYNC_SECONDS = 0.0
data, teacher, out, kill_after = sys.argv[1:]
done = 0
def on_batch(count):
    global done
    done += count
    if done >= int(kill_after):
        os.kill(os.getpid(), signal.SIGKILL)
report = label_images(
    load_teacher(teacher), open_training_data(data), Path(out), data=data, options=LabelOptions(), batch_size=4,
    on_batch=on_batch)
print(report.labeled, report.before)
"""


def start(setting, teacher_folder, out, kill_after=1000, **environment):
    command = [sys.executable, "-c", LABEL, setting[3], str(teacher_folder), str(out), str(kill_after)]
    return subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)


def test_after_sigkill_all_labeled_records_are_whole(setting, teacher_folder):
    process = start(setting, teacher_folder, setting[2], kill_after=8)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    run(setting, setting[2].with_name("whole"))
    killed, whole = TokenLabelStore(setting[2]), TokenLabelStore(setting[2].with_name("whole"))
    done = np.flatnonzero(killed.states == LABELED)
    assert done.tolist() == list(range(8))
    for index in done:
        np.testing.assert_array_equal(killed.read(index).scores, whole.read(index).scores)
    report = run(setting)
    assert (report.labeled, report.before) == (16, 8)
    for index in range(24):
        np.testing.assert_array_equal(killed.read(index).classes, whole.read(index).classes)


def test_two_processes_share_the_work(setting, teacher_folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    both = [start(setting, teacher_folder, setting[2], RANK=str(rank), **shared) for rank in range(2)]
    assert [process.communicate(timeout=120)[0].split() for process in both] == [["12", "0"], ["12", "0"]]
    run(setting, setting[2].with_name("whole"))
    mine, whole = TokenLabelStore(setting[2]), TokenLabelStore(setting[2].with_name("whole"))
    assert (mine.states == LABELED).all()
    for index in range(24):
        np.testing.assert_array_equal(mine.read(index).classes, whole.read(index).classes)


def test_an_unreadable_image_is_reported_skipped_and_tried_again(setting):
    broken = setting[1].paths[7]
    good = broken.read_bytes()
    broken.write_bytes(b"no image")
    report = run(setting, batch_size=1)
    assert report.labeled == 23
    assert len(report.problems) == 1
    assert str(broken) in report.problems[0]
    store = TokenLabelStore(setting[2])
    assert np.flatnonzero(store.states == UNREADABLE).tolist() == [7]
    broken.write_bytes(good)
    report = run(setting)
    assert (report.labeled, report.before, report.problems) == (1, 23, ())
    assert store.sizes()[7] == len(good)


def test_a_store_of_another_teacher_or_other_data_is_not_resumed(setting, teacher_folder):
    run(setting)
    teacher, images, out, data = setting
    with pytest.raises(ValueError, match=r"was created with preprocessing .*'flip': False.* choose another --output"):
        run(setting, flip=True)
    with pytest.raises(ValueError, match="was created with top_k 3, not 1"):
        run(setting, top_k=1)
    with pytest.raises(ValueError, match=r"was created with preprocessing .*\[32, 32\]"):
        run((load_teacher(str(teacher_folder), resolution=64), images, out, data))
    other = create_model("volo_micro_32", num_classes=3)
    preprocessing = vars(teacher.preprocessing)
    save_model(
        teacher_folder,
        other.config,
        other.state_dict(),
        class_names=teacher.class_name_lists[0],
        preprocessing=preprocessing,
    )
    with pytest.raises(
        ValueError, match=r"was created with teacher .* \(weights \w{16}\), not .* choose another --output"
    ):
        run((load_teacher(str(teacher_folder)), images, out, data))
    images.paths[0].unlink()
    fewer = open_training_data(data)
    with pytest.raises(ValueError, match="was created with other data: it has 24 images, the data have 23"):
        run((teacher, fewer, out, data))
    images.paths[1].write_bytes(images.paths[2].read_bytes())
    with pytest.raises(
        ValueError, match=r"1 images are of another file size than when they were labeled: train/blue/01\.png"
    ):
        run((teacher, fewer, out, data))


def test_a_second_labeling_into_the_same_store_is_refused(setting):
    with labeling._lock(setting[2], 0), pytest.raises(ValueError, match="another process is labeling into"):
        run(setting)
    assert not setting[2].exists()
    run(setting)
    assert not list(setting[2].parent.glob(".volo-lock*"))


def test_logits_that_are_not_finite_stop_the_labeling(setting):
    teacher = setting[0]
    with torch.no_grad():
        teacher.model.model.aux_head.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="gives logits that are not finite in float16: its weights are damaged"):
        run(setting)


@pytest.mark.parametrize("options", [{"fit": "crop"}, {"top_k": 0}])
def test_invalid_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        LabelOptions(**options)
