"""Options in any spelling, errors that say what was meant, help that fits a terminal."""

import re

import pytest
from jsonargparse import ActionConfigFile

from volo.cli import MODULES, main
from volo.cli.inference import bench, eval, export, predict
from volo.cli.management import weights
from volo.cli.training import label, train
from volo.cli.ui.parser import VerbParser, parse

#: Words after ``volo`` → its help.
HELPS = [
    *([verb] for verb in MODULES if verb not in ("data", "weights")),
    ["data", "check"],
    *(["weights", action] for action in weights.ACTIONS),
    ["train", "--help-all"],
]


def help_of(words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    try:
        code = main([*words, "--help"])
    except SystemExit as end:
        code = end.code
    assert code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", HELPS, ids=" ".join)
def test_help_has_dashes_and_no_types(words, capsys, monkeypatch):
    text = help_of(words, capsys, monkeypatch)
    options = re.findall(r"^  (?:-\w, )?(--[\w.-]+)", text, re.MULTILINE)
    assert options
    assert not [option for option in options if "_" in option]
    assert not re.search(r"type:|default: null|default: False|CONFIG|\bITEM\b|``", text)
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("words", [words for words in HELPS if words != ["train", "--help-all"]], ids=" ".join)
def test_help_fits_a_hundred_lines(words, capsys, monkeypatch):
    assert len(help_of(words, capsys, monkeypatch).splitlines()) <= 100


def test_the_short_help_of_train_is_true(capsys, monkeypatch):
    """Every option in it is a setting's short form, a setting, or an option; and its defaults are those of settings."""
    short, full = train.short_parser(), train.full_parser()
    keys = {action.dest: action for action in full._actions}
    for action in short._actions:
        dest = train.SHORT_FORMS.get(action.dest, train.FLAGS.get(action.dest, action.dest))
        if dest == "data":
            continue
        assert dest in keys, action.option_strings
        if action.default not in (None, False, "==SUPPRESS=="):
            assert str(action.default) == str(keys[dest].default), dest


@pytest.mark.parametrize(
    ("parser", "options", "expected"),
    [
        (predict.parser(), ["m", "i", "--top_k=2", "--batch_size", "3"], {"top_k": 2, "batch_size": 3}),
        (predict.parser(), ["m", "i", "--top-k=2", "--batch-size", "3"], {"top_k": 2, "batch_size": 3}),
        (eval.parser(), ["m", "d", "--image_column=a", "--among=folder"], {"image_column": "a", "among": "folder"}),
        (label.parser(), ["d", "--out", "s", "--top_k=2"], {"output": "s", "top_k": 2}),
        (label.parser(), ["d", "--output=s"], {"output": "s"}),
        (bench.parser(), ["--batch", "1,2"], {"batch_size": ["1,2"]}),
        (export.parser(), ["m", "--to=onnx", "--include_resize"], {"include_resize": True}),
        (train.full_parser(), ["d", "--dry_run", "--data.val-fraction=0.5"], {"dry_run": True}),
    ],
)
def test_dashes_underscores_and_old_names_are_accepted(parser, options, expected):
    parsed = parse(parser, options)
    assert {name: parsed[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train d --patience 3", "--patience: there is no early stopping yet"),
        ("train d --imgsz=224", "--imgsz: the size of the images is --image-size"),
        ("train d --learning_rate 1", "--learning_rate: the learning rate is --lr"),
        ("train --data d", "--data: DATA is an argument without an option"),
        ("train d --optim adamw", "--optim: its settings are --optim.NAME"),
        ("train d --weight-decay 0", "--weight-decay: the weight decay is --optim.weight-decay"),
        ("train d --val-split 0.2", "--val-split: the share held out is --data.val-fraction"),
        ("train d --clip-grad 1", "--clip-grad: there is no clipping of gradients"),
        ("train d --exist-ok", "--exist-ok: a run is never overwritten; choose another --output"),
        ("train d --max-epochs 3", "--max-epochs: the epochs are --epochs"),
        ("predict m i --conf 0.5", "--conf: there is no threshold"),
        ("models --batch 3", "unknown option --batch; available: -h, --help"),
        ("weights list --gpu", "unknown option --gpu"),
        ("eval m d --bs 3", "--bs: the number of images in a batch is --batch-size"),
        ("predict m i --top-kk 3", "unknown option --top-kk; did you mean '--top-k'?"),
        ("train d --optim.lrr=2", "unknown option --optim.lrr; did you mean '--optim.lr'?"),
        ("train d more", "too many arguments, from 'more' on; usage: volo train DATA [options]"),
        ("train d --epochs x", "--epochs must be a whole number, not 'x'"),
        ("train d --data.val_fraction x", "--data.val-fraction must be a number, not 'x'"),
        ("train d --task=foo", "--task must be classification or segmentation, not 'foo'"),
        ("train d --optim.betas=3", "--optim.betas must be a list of 2 numbers, such as [1,2], not '3'"),
        ("train d --loss.mix-token=maybe", "--loss.mix-token must be true or false, not 'maybe'"),
        ("train d --image-size=2x3", "--image-size 2x3: classifiers are trained on square images"),
        ("train d --image-size=big", "--image-size must be a side, such as 224"),
        ("predict m i --batch-size=x", "--batch-size must be a whole number, not 'x'"),
        ("predict m i --batch-size", "--batch-size needs a value"),
        ("label d", "--output is missing; usage: volo label DATA --output STORE [options]"),
        ("eval m", "data is missing; usage: volo eval MODEL DATA [options]"),
        ("eval m d --classes folder", "--classes is a list of class names now: write --among folder"),
        ("completion tcsh", "unknown shell 'tcsh'; it is one of bash, zsh, fish"),
    ],
)
def test_wrong_words_are_answered(command, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if command == "eval m d --classes folder":
        monkeypatch.setattr("volo.cli.inference.eval.open_model_option", lambda options: "m")
        monkeypatch.setattr("volo.cli.inference.eval.model_task", lambda model: "classification")
    assert main(command.split()) == 2
    assert message in capsys.readouterr().err


def test_a_wrong_value_in_a_recipe_is_named(tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text("epochs: many\n")
    assert main(["train", "fashion-mini", "--recipe", str(tmp_path / "recipe.yaml")]) == 2
    assert "--epochs must be a whole number, not 'many'" in capsys.readouterr().err


def test_an_error_that_is_not_known_is_one_line():
    parser = VerbParser(prog="volo x", usage="", description="")
    parser.add_argument("--config", action=ActionConfigFile)
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        parser.error("first\n  second")


def test_a_number_of_hundreds_of_digits_is_out_of_range(capsys):
    assert main(["train", "photos", f"--optim.lr=1{'0' * 400}"]) == 2
    assert capsys.readouterr().err.startswith("volo train: a number is out of range: int too large to convert to float")
