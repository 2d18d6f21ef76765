"""The comparison of runs, from run folders made by hand."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binomtest

from volo.models import create_model, save_model
from volo.training.config import ModelConfig, OptimConfig, TrainConfig
from volo.training.reports.compare import compare_runs, table_rows
from volo.training.reports.compare_plot import draw_comparison

CONFIG = TrainConfig(model=ModelConfig(name="volo_micro_32"), epochs=3, optim=OptimConfig(warmup_epochs=0))


def make_run(folder, *, config=CONFIG, top1=(0.2, 0.5, 0.4), right=None, data="data"):
    """Write a run folder, of a finished run if ``right`` says of every image whether its prediction is correct."""
    folder.mkdir(parents=True)
    (folder / "train.json").write_text(replace(config, output=str(folder)).to_json())
    if top1:
        with (folder / "metrics.csv").open("w") as file:
            file.write("epoch,val_loss,val_top1,seconds\n")
            file.writelines(f"{epoch},{1 - value},{value},60\n" for epoch, value in enumerate(top1, 1))
    if right is not None:
        results = {"top1": float(np.mean(right)), "top5": None, "intervals": {"top1": [0.1, 0.9]}}
        (folder / "results.json").write_text(json.dumps(results))
        with (folder / "predictions.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "true", "predicted", "answer"])
            for number, answer in enumerate(right):
                writer.writerow([f"{data}/{number}.png", "ant", "?", "right" if answer else "wrong"])
    return folder


def make_segmentation_run(folder, miou):
    """Write the folder of a finished run of segmentation."""
    folder.mkdir(parents=True)
    config = replace(CONFIG, task="segmentation", output=str(folder))
    (folder / "train.json").write_text(config.to_json())
    (folder / "metrics.csv").write_text(f"epoch,val_loss,val_miou,val_pixel_accuracy,seconds\n1,0.5,{miou},0.9,60\n")
    (folder / "results.json").write_text(json.dumps({"miou": miou, "pixel_accuracy": 0.9}))
    return folder


def right(*counts):
    """Alternate correct and wrong predictions: the first count correct, the second wrong, and so on."""
    return np.concatenate([np.full(count, place % 2 == 0) for place, count in enumerate(counts)])


def test_settings_that_differ_are_listed_and_no_others(tmp_path):
    other = replace(CONFIG, epochs=5, optim=OptimConfig(lr=3e-3, warmup_epochs=0))
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b", config=other)
    comparison = compare_runs([first, second])
    assert comparison.settings == {"optim.lr": [0.001, 0.003], "epochs": [3, 5]}


def test_a_setting_that_an_older_run_does_not_have_takes_its_default(tmp_path):
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b")
    values = json.loads((first / "train.json").read_text())
    del values["compile"], values["model"]["grad_checkpointing"]
    (first / "train.json").write_text(json.dumps(values))
    assert compare_runs([first, second]).settings == {}


def test_runs_on_the_same_images_are_tested_in_pairs(tmp_path):
    # Of 100 images, both predict 50 correctly and 20 wrongly; 8 only the first correctly, 22 only the second.
    make_run(tmp_path / "a", right=right(50, 20, 8, 22))
    make_run(tmp_path / "b", right=right(50, 28, 22))
    make_run(tmp_path / "c", right=right(50, 20, 8, 22))
    comparison = compare_runs([tmp_path / name for name in "abc"])
    test, same = comparison.tests
    assert (test.images, test.only_first, test.only_second) == (100, 8, 22)
    assert test.difference == pytest.approx(0.14)
    assert test.p_value == pytest.approx(binomtest(8, 30, 0.5).pvalue)
    spread = 1.96 * np.sqrt((30 / 100 - 0.14**2) / 100)
    assert test.interval == pytest.approx((0.14 - spread, 0.14 + spread), abs=0.03)
    assert (same.difference, same.interval, same.p_value) == (0, (0, 0), 1)
    assert comparison.notes == ()


def test_runs_on_different_images_are_not_tested_but_noted(tmp_path):
    make_run(tmp_path / "a", right=right(6, 4))
    make_run(tmp_path / "b", right=right(6, 5))
    make_run(tmp_path / "c", right=right(6, 4), data="others")
    comparison = compare_runs([tmp_path / name for name in "abc"])
    assert comparison.tests == (None, None)
    assert comparison.notes == (
        "a and b were evaluated on different images (10 and 11, 10 of them the same): "
        "their scores differ for this reason too",
        "a and c were evaluated on different images (10 and 10, 0 of them the same): "
        "their scores differ for this reason too",
    )


def test_an_unfinished_run_is_shown_as_far_as_it_went(tmp_path):
    make_run(tmp_path / "a", right=right(6, 4))
    make_run(tmp_path / "b", top1=(0.2, 0.3))
    make_run(tmp_path / "c", top1=())
    comparison = compare_runs([tmp_path / name for name in "abc"])
    assert [run.state for run in comparison.runs] == [
        "finished", "unfinished: 2 of 3 epochs", "unfinished: 0 of 3 epochs",
    ]  # fmt: skip
    assert comparison.notes[0] == "b is unfinished: 2 of 3 epochs; it has no final scores"
    rows = dict(table_rows(comparison))
    assert rows["best epoch"] == ["50.00% (epoch 2)", "30.00% (epoch 2)", "–"]
    assert rows["last epoch"] == ["40.00% (epoch 3)", "30.00% (epoch 2)", "–"]
    assert rows["top-1"] == ["60.00%\n10.00 to 90.00", "–", "–"]
    assert rows["training time"] == ["0:03:00", "0:02:00", "–"]
    draw_comparison(comparison, tmp_path / "picture.png")


def test_a_run_without_predictions_is_noted(tmp_path):
    make_run(tmp_path / "a", right=right(6, 4))
    make_run(tmp_path / "b", right=right(6, 4))
    (tmp_path / "b/predictions.csv").unlink()
    assert "b has no predictions.csv" in compare_runs([tmp_path / "a", tmp_path / "b"]).notes[0]


def test_runs_of_segmentation_are_compared_by_their_mean_iou(tmp_path):
    first, second = make_segmentation_run(tmp_path / "a", 0.4), make_segmentation_run(tmp_path / "b", 0.5)
    comparison = compare_runs([first, second])
    assert dict(table_rows(comparison)) == {
        "state": ["finished", "finished"],
        "mean IoU": ["40.00%", "50.00%"],
        "pixel accuracy": ["90.00%", "90.00%"],
        "mean IoU against a": ["", "–"],
        "best epoch": ["40.00% (epoch 1)", "50.00% (epoch 1)"],
        "last epoch": ["40.00% (epoch 1)", "50.00% (epoch 1)"],
        "training time": ["0:01:00", "0:01:00"],
        "parameters": ["–", "–"],
    }
    assert comparison.notes == (
        "differences in mean IoU are not tested: the test compares classifiers, image by image",
    )
    draw_comparison(comparison, tmp_path / "picture.png")


def test_runs_of_different_tasks_are_refused(tmp_path):
    runs = [make_run(tmp_path / "a"), make_segmentation_run(tmp_path / "b", 0.5)]
    with pytest.raises(
        ValueError, match="a is a classification run and b a segmentation run; compare runs of one task"
    ):
        compare_runs(runs)


def test_parameters_are_those_of_the_model(tmp_path):
    model = create_model("volo_micro_32", num_classes=7)
    for name in "ab":
        make_run(tmp_path / name)
    settings = {"class_names": tuple("abcdefg"), "preprocessing": {}}
    save_model(tmp_path / "b", model.config, model.state_dict(), **settings)
    first, second = compare_runs([tmp_path / "a", tmp_path / "b"]).runs
    assert first.parameters is None
    assert second.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path):
    paths = [make_run(tmp_path / name / "run") for name in "ab"]
    assert [run.name for run in compare_runs(paths).runs] == [str(path) for path in paths]


@pytest.mark.parametrize("count", [2, 9])
def test_the_picture_has_a_line_for_every_run_and_the_json_all_figures(tmp_path, count):
    paths = [
        make_run(tmp_path / f"$run_{n}$", right=right(50 + n, 50 - n), config=replace(CONFIG, seed=n))
        for n in range(count)
    ]
    comparison = compare_runs(paths)
    draw_comparison(comparison, tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.width >= 1500
        colors = {color for _, color in picture.convert("RGB").getcolors(2**24)}
    assert {(31, 119, 180), (255, 127, 14)} <= colors  # the first two lines'
    values = json.loads(comparison.to_json())
    assert [run["name"] for run in values["runs"]] == [path.name for path in paths]
    assert values["settings"] == {"seed": list(range(count))}
    assert len(values["against_the_first"]) == count - 1
    assert values["runs"][0]["epochs"][1]["val_top1"] == 0.5


def test_folders_that_are_not_run_folders_are_refused(tmp_path):
    run = make_run(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    for folders, message in (
        ([run], "at least two"),
        ([run, run / "."], "at least two different"),
        ([run, tmp_path / "nowhere"], "nowhere is not a run folder: it does not exist; give run folders of volo train"),
        ([run, tmp_path / "empty"], r"empty is not a run folder: it has no train.json"),
    ):
        with pytest.raises(ValueError, match=message):
            compare_runs(folders)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("train.json", "{"),
        ("results.json", "[1]"),
        ("metrics.csv", "epoch,loss\n1,2\n"),
        ("metrics.csv", "epoch,val_top1\n1,high\n"),
        ("predictions.csv", "file\n1.png\n"),
        ("predictions.csv", "path,true,answer\n1.png,cat\n"),
        ("train.json", "[" * 100_000),
        ("train.json", '{"task": "detection"}'),
        ("train.json", '{"task": ["classification"]}'),
        ("results.json", '{"top1": "1"}'),
        ("results.json", '{"top1": 1e999}'),
        ("results.json", '{"top1": 0.5, "intervals": [1]}'),
        ("results.json", '{"top1": 0.5, "intervals": null}'),
        ("results.json", '{"top1": 0.5, "intervals": {"top1": [0.1]}}'),
        ("results.json", '{"top1": 0.5, "intervals": {"top1": [null, 1]}}'),
        ("metrics.csv", "epoch,val_miou\n1,0.5\n"),
        ("metrics.csv", "epoch,val_top1\nnan,0.5\n"),
        ("metrics.csv", "epoch,val_top1,seconds\n1,0.5,inf\n"),
        ("metrics.csv", "epoch,val_top1\n1,0.5,7\n"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file, text):
    first, second = make_run(tmp_path / "a", right=right(5)), make_run(tmp_path / "b", right=right(5))
    (second / file).write_text(text)
    with pytest.raises(ValueError, match=f"b/{file} is damaged"):
        compare_runs([first, second])


def test_a_description_that_volo_train_did_not_write_is_named(tmp_path):
    first, second = make_run(tmp_path / "a", right=right(5)), make_run(tmp_path / "b", right=right(5))
    (second / "config.json").write_text('{"architecture": "volo_d1_224", "num_classes": 3}')
    with pytest.raises(ValueError, match=r"b/config\.json was not written by volo train: it has no architecture"):
        compare_runs([first, second])
