"""Archives of ``torch.export.save`` give what PyTorch's own loader gives, and none of them runs code."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from volo.cli import main
from volo.data import Preprocessing
from volo.data.embedded import photo_folder
from volo.export.capture import capture
from volo.export.graph import Graph, example
from volo.export.torch_export import write_torch_export
from volo.inference import Predictor
from volo.models import create_model, create_segmenter
from volo.models.segmentation import DECODERS
from volo.runtime.export_info import KEY
from volo.runtime.program import Program

#: An archive of a classifier for images of 32 pixels, whose batch size may vary.
ORDINARY = Path(__file__).parents[1] / "golden" / "cfc38e8" / "run.pt2"
MODEL, INPUTS = "archive/models/model.json", "archive/data/sample_inputs/model.pt"
WEIGHTS = "archive/data/weights/model_weights_config.json"
CONSTANTS = "archive/data/constants/model_constants_config.json"
#: The file that the code in evil archives makes.
MARKER = "code-ran"
COMMAND = f"open({MARKER!r}, 'w').close()"


class Evil:
    def __reduce__(self):
        return exec, (COMMAND,)


def saved(value) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def rewritten(path: Path, change, *, compression=zipfile.ZIP_STORED) -> Path:
    """Write a copy of the ordinary archive after ``change`` has edited its members, a dictionary of bytes."""
    with zipfile.ZipFile(ORDINARY) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def edit(member):
    """Return a decorator: the function edits the JSON of a member, and gets the members for anything else."""

    def decorate(function):
        def change(members):
            content = json.loads(members[member])
            function(content, members)
            members[member] = json.dumps(content).encode()

        change.__name__ = function.__name__
        return change

    return decorate


def sample_inputs(members):
    members[INPUTS] = saved(Evil())


@edit(WEIGHTS)
def pickled_weight(config, members):
    entry = next(iter(config["config"].values()))
    entry["use_pickle"] = True
    members[f"archive/data/weights/{entry['path_name']}"] = saved(Evil())


@edit(CONSTANTS)
def pickled_constant(config, members):
    config["config"]["evil"] = {"path_name": "tensor_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    members["archive/data/constants/tensor_0"] = saved(Evil())


@edit(CONSTANTS)
def opaque_object(config, members):
    config["config"]["evil"] = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    members["archive/data/constants/opaque_obj_0"] = pickle.dumps(Evil())


@edit(CONSTANTS)
def custom_object(config, members):
    config["config"]["evil"] = {
        "path_name": "custom_obj_0",
        "is_param": False,
        "use_pickle": False,
        "tensor_meta": None,
    }
    members["archive/data/constants/custom_obj_0"] = b"x"


def legacy_weights(members):
    members["archive/data/weights/model.pt"] = saved(Evil())
    del members[WEIGHTS]


@edit(MODEL)
def guard(model, members):
    model["guards_code"] = [f"__import__('os').system('touch {MARKER}') == 0"]


@edit(MODEL)
def operator_with_a_file(model, members):
    node = model["graph_module"]["graph"]["nodes"][-1]
    node["target"] = "torch.ops.aten.from_file.default"


@edit(MODEL)
def function_of_python(model, members):
    node = model["graph_module"]["graph"]["nodes"][-1]
    node["target"] = "torch.os.system"


@edit(MODEL)
def changed_buffers(model, members):
    (spec,) = model["graph_module"]["signature"]["output_specs"]
    model["graph_module"]["signature"]["output_specs"] = [{"buffer_mutation": spec["user_output"]}]


@edit(MODEL)
def input_that_is_a_number(model, members):
    model["graph_module"]["signature"]["input_specs"][-1] = {"constant_input": {"name": "a", "value": {"as_int": 1}}}


@edit(MODEL)
def strange_argument(model, members):
    model["graph_module"]["graph"]["nodes"][-1]["inputs"][0]["arg"] = {"as_custom_obj": {"name": "a", "class_fqn": "b"}}


@edit(MODEL)
def strange_result(model, members):
    model["graph_module"]["graph"]["nodes"][-1]["outputs"] = [{"as_custom_obj": {"name": "a", "class_fqn": "b"}}]


REFUSED = [
    (sample_inputs, "data/sample_inputs/model.pt holds a pickle of more than tensors"),
    (pickled_weight, "weight model.pos_embed is a pickle"),
    (pickled_constant, "constant evil is a pickle"),
    (opaque_object, "constant evil is a pickle"),
    (custom_object, "constant evil is a pickle"),
    (legacy_weights, "it has no data/weights/model_weights_config.json"),
    (guard, "the guard .* is not supported"),
    (operator_with_a_file, "the operator torch.ops.aten.from_file.default is not one of those"),
    (function_of_python, "the operator torch.os.system is not one of those"),
    (changed_buffers, "outputs of the kind 'buffer_mutation' are not supported"),
    (input_that_is_a_number, "inputs of the kind 'constant_input' are not supported"),
    (strange_argument, "the argument .* is not supported"),
    (strange_result, "the result .* is not supported"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder: the code in evil archives would make a file in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_an_archive_with_more_than_tensors_is_refused(folder, change, message):
    path = rewritten(folder / "evil.pt2", change)
    with pytest.raises(
        ValueError, match=rf"evil\.pt2 cannot be loaded by torch-export: {message}.*trust=True"
    ) as caught:
        Predictor(path)
    assert len(str(caught.value).splitlines()) == 1
    assert not Path(MARKER).exists()


def test_trust_runs_the_code_of_an_archive(folder, capfd):
    """The attacks of this file are real ones, and what trust means."""
    path = rewritten(folder / "evil.pt2", sample_inputs)
    with pytest.raises(ValueError, match=r"evil\.pt2 cannot be loaded"):
        Predictor(path, trust=True)
    assert Path(MARKER).exists()
    assert capfd.readouterr() == ("", "")  # none of PyTorch's log


def evil_size(members):
    size = b"Mul(Integer(16), Symbol('s34', positive=True, integer=True))"
    assert size in members[MODEL]
    members[MODEL] = members[MODEL].replace(size, b'eval(\\"exec(\\\\\\"' + COMMAND.encode() + b'\\\\\\")\\")')


def evil_name(members):
    members[MODEL] = members[MODEL].replace(b'"images"', json.dumps(f"images=exec({COMMAND!r})").encode())


def second_archive_of_pytorch_2_7(members):
    """PyTorch opens such members when it cannot read the others, and unpickles them."""
    del members["archive/archive_version"]
    with zipfile.ZipFile(ORDINARY) as archive:
        members["serialized_exported_program.json"] = archive.read(MODEL)
    for name in ("state_dict", "constants", "example_inputs"):
        members[f"serialized_{name}.pt"] = saved(Evil())
    members["version"] = b"8.20"


@pytest.mark.parametrize(
    "change", [evil_size, evil_name, second_archive_of_pytorch_2_7], ids=lambda change: change.__name__
)
def test_code_where_pytorch_s_loader_would_run_it_is_not_read(folder, change):
    """PyTorch evaluates sizes and names as Python; here they are only names."""
    path = rewritten(folder / "evil.pt2", change)
    expected = Predictor(ORDINARY)(photo())
    assert Predictor(path)(photo()) == expected
    assert not Path(MARKER).exists()


def photo():
    return sorted(photo_folder().glob("*.jpg"))[0]


@pytest.mark.parametrize("verb", ["predict", "eval", "bench", "bench --against", "predict --runtime torch-export"])
def test_no_command_runs_the_code_of_an_archive(folder, verb, capsys):
    path = rewritten(folder / "evil.pt2", sample_inputs)
    word, *options = verb.split()
    before = ["--models", "volo_micro_32"] if options == ["--against"] else ["--models"] if word == "bench" else []
    data = [] if word == "bench" else [str(photo_folder())]
    assert (
        main([word, *before, *(options if word == "bench" else []), str(path), *data, *(options if data else [])]) == 2
    )
    assert "evil.pt2 cannot be loaded by torch-export: data/sample_inputs" in capsys.readouterr().err
    assert not Path(MARKER).exists()


def test_a_package_of_machine_code_needs_trust(folder, capsys):
    def compiled(members):
        members["archive/data/aotinductor/model/model.so"] = b"x"

    path = rewritten(folder / "package.pt2", compiled)
    assert main(["predict", str(path), str(photo())]) == 2
    error = capsys.readouterr().err
    assert "package.pt2 cannot be loaded by aotinductor: it contains machine code, which could do anything" in error
    assert "--trust" in error


def damaged(members):
    members[MODEL] = b'{"graph_module": 3}'


def without_a_weight(members):
    del members["archive/data/weights/weight_3"]


def not_utf8(members):
    members["archive/extra/volo"] = b"\xff"


@edit(WEIGHTS)
def weight_beyond_its_bytes(config, members):
    next(iter(config["config"].values()))["tensor_meta"]["sizes"][0]["as_int"] = 10**6


@pytest.mark.parametrize(
    "change",
    [damaged, without_a_weight, not_utf8, weight_beyond_its_bytes],
    ids=lambda change: change.__name__,
)
def test_a_damaged_archive_is_an_error_that_asks_for_no_trust(folder, change):
    with pytest.raises(ValueError, match=r"a\.pt2 cannot be loaded by torch-export: ") as caught:
        Predictor(rewritten(folder / "a.pt2", change))
    assert "trust" not in str(caught.value)
    assert not Path(MARKER).exists()


def test_a_compressed_archive_is_refused_before_it_is_read(folder):
    def bomb(members):
        members[INPUTS] = bytes(10**7)

    path = rewritten(folder / "bomb.pt2", bomb, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="its members are compressed"):
        Program(path.read_bytes(), extra=KEY)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(folder):
    path = rewritten(folder / "two.pt2", lambda members: None)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(MODEL, "{}")
    with pytest.raises(ValueError, match="several members have one name"):
        Program(path.read_bytes(), extra=KEY)


def test_a_file_that_changes_after_the_check_is_not_read_again(folder, monkeypatch):
    """Somebody exchanges the file as soon as it has been read."""
    path, evil = rewritten(folder / "a.pt2", lambda members: None), rewritten(folder / "evil.pt2", sample_inputs)
    read = Path.read_bytes

    def exchange(self):
        content = read(self)
        if self == path:
            evil.replace(path)
        return content

    monkeypatch.setattr(Path, "read_bytes", exchange)
    assert Predictor(path)(photo()) == Predictor(ORDINARY)(photo())
    assert not Path(MARKER).exists()


def test_an_old_archive_gives_the_same_bits_as_pytorch_s_loader():
    ours, theirs = Program(ORDINARY.read_bytes(), extra=KEY), torch.export.load(ORDINARY).module()
    for batch in (1, 3):
        images = torch.randn(batch, 3, 32, 32, generator=torch.Generator().manual_seed(batch))
        (got,) = ours(images)
        assert torch.equal(got, theirs(images))
    assert json.loads(ours.extra or "")["task"] == "classification"


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            torch.zeros(1, 3, 32, 33),
            r"torch.float32 of shape \(any, 3, 32, 32\), not torch.float32 of shape \(1, 3, 32, 33",
        ),
        (torch.zeros(3, 32, 32), r"of shape \(3, 32, 32\)"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "not torch.uint8"),
    ],
)
def test_images_that_the_program_was_not_traced_for_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        Program(ORDINARY.read_bytes(), extra=KEY)(images)


def assert_same_bits(graph: Graph, path: Path, size: tuple[int, int], *, sizes: bool, multiple: int = 1) -> None:
    """Write the archive of a graph, and compare its outputs with those that PyTorch's own loader gives."""
    images = example(graph, 3, size, batch=2)
    write_torch_export(capture(graph, images, batches=True, sizes=sizes, multiple=multiple), path, "{}")
    ours, theirs = Program(path.read_bytes(), extra=KEY), torch.export.load(path).module()
    for index, shape in enumerate([images.shape, (3, *images.shape[1:])]):
        random = torch.Generator().manual_seed(index)
        if graph.normalizes:
            batch = torch.randint(0, 256, shape, generator=random, dtype=torch.uint8)
        else:
            batch = torch.randn(shape, generator=random)
        expected = theirs(batch)
        expected = [expected] if isinstance(expected, torch.Tensor) else list(expected)
        got = ours(batch)
        assert len(got) == len(expected)
        assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sizes", [False, True])
def test_every_form_of_a_classifier_gives_the_same_bits_as_pytorch_s_loader(tmp_path, dtype, sizes):
    torch.manual_seed(0)
    model = create_model("volo_micro_32", num_classes=3).eval()
    preprocessing = Preprocessing(size=(32, 32))
    forms = [{}, {"preprocessing": preprocessing, "softmax": True, "tokens": True}]
    if sizes:
        forms.append({"preprocessing": preprocessing, "resize": True})
    for form in forms:
        fixed = (32, 32) if not sizes or form.get("resize") else None
        graph = Graph(model, fixed, dtype=dtype, **form)
        assert_same_bits(graph, tmp_path / "a.pt2", (48, 80) if sizes else (32, 32), sizes=sizes)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [False, True])
@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_gives_the_same_bits_as_pytorch_s_loader(tmp_path, decoder, sizes):
    torch.manual_seed(0)
    width = 32 if DECODERS[decoder] else None
    model = create_segmenter("volo_micro_32", num_classes=3, decoder=decoder, decoder_channels=width, img_size=(64, 64))
    graph = Graph(model.eval(), None if sizes else (64, 64), softmax=True)
    assert_same_bits(graph, tmp_path / "a.pt2", (96, 160) if sizes else (64, 64), sizes=sizes, multiple=32)
