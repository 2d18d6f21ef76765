"""Out again: what is written for others gives the same logits in their code, and others' outlook attention in ours."""

import numpy as np
import pytest
import timm
import torch
from peers import randomize, timm_from_config, timm_micro
from timm.models.volo import OutlookAttention as TimmOutlookAttention
from torch import nn
from torch.testing import assert_close

from volo.models import VARIANTS, create_model, load_model, save_model
from volo.models.weights.convert import convert, outlook_attention_layer

NAME = "volo_micro_32"


def images(model):
    return torch.randn(1, 3, *model.config.img_size, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def d1():
    return randomize(create_model("volo_d1_224", num_classes=5, img_size=(64, 96))).eval()


def test_timm_builds_the_folder_written_for_it(tmp_path, d1):
    source = tmp_path / "source.pth"
    torch.save(d1.state_dict(), source)
    written = convert(source, tmp_path / "timm", to="timm")
    assert written.model.config.img_size == (64, 96)
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
    with torch.no_grad():
        assert_close(theirs(images(d1)), d1(images(d1)), atol=2e-5, rtol=0)
    settings = timm.data.resolve_model_data_config(theirs)
    assert tuple(settings["input_size"]) == (3, 64, 96)
    assert (settings["crop_pct"], settings["interpolation"]) == (1.0, "bicubic")
    assert theirs.pretrained_cfg["label_names"] == list("01234")
    again = load_model(tmp_path / "timm")
    assert_close(again.model(images(d1)), d1(images(d1)), atol=2e-6, rtol=0)  # memory is aligned otherwise
    assert again.class_names == tuple("01234")


def test_published_preprocessing_goes_to_timm(tmp_path):
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in timm_from_config(VARIANTS["volo_d1_224"], num_classes=3).state_dict().items()}
    weights = {name: torch.zeros(shape) for name, shape in shapes.items()}
    convert(weights, tmp_path / "timm", to="timm")
    theirs = timm.create_model(f"local-dir:{tmp_path / 'timm'}")
    official = timm.get_pretrained_cfg("volo_d1_224.sail_in1k").to_dict()
    settings = timm.data.resolve_model_data_config(theirs)
    for key in ("input_size", "crop_pct", "interpolation", "mean", "std"):
        expected = official[key]
        assert type(expected)(settings[key]) == expected, key
    assert theirs.pretrained_cfg["fixed_input_size"]
    assert theirs.pretrained_cfg["classifier"] == list(official["classifier"])


@pytest.mark.parametrize("to", ["official", "volo"])
def test_a_model_of_a_size_of_ours_comes_back(tmp_path, to):
    peer = timm_micro()
    convert(peer, tmp_path / "out", to=to)
    model = load_model(tmp_path / "out").model
    assert_close(model(images(model)), peer(images(model)), atol=2e-5, rtol=0)


def test_the_authors_loader_finds_its_entry_and_names(tmp_path, d1):
    """The authors' loader reads ``state_dict``, removes ``module.``, and loads strictly."""
    convert(d1.state_dict(), tmp_path / "deep" / "d1.pth.tar", to="official")
    content = torch.load(tmp_path / "deep" / "d1.pth.tar", weights_only=True)
    theirs = timm_from_config(d1.config)
    theirs.load_state_dict(content["state_dict"], strict=True)


@pytest.mark.parametrize("settings", [{"heads": (6, 8)}, {"outlook_stride": 1}])
def test_a_model_that_the_other_system_would_compute_differently_is_an_error(tmp_path, settings):
    """Any D1 loads these tensors without an error, but computes other logits."""
    model = create_model("volo_d1_224", num_classes=3, **settings)
    described = {"class_names": ("a", "b", "c"), "preprocessing": {"size": [224, 224]}}
    save_model(tmp_path, model.config, model.state_dict(), **described)
    with pytest.raises(ValueError, match="timm has no model of the size of this one"):
        convert(tmp_path, tmp_path / "out", to="timm")
    with pytest.raises(ValueError, match=r"cannot store (heads|outlook).*, which no tensor shows; use --to volo$"):
        convert(tmp_path, tmp_path / "out", to="official")
    assert not (tmp_path / "out").exists()


def test_a_failed_conversion_leaves_no_files(tmp_path):
    peer = timm_micro()
    with pytest.raises(
        ValueError, match=r"timm has no model of the size of volo_micro; .* --to official writes as one file"
    ):
        convert(peer, tmp_path / "out", to="timm")
    with pytest.raises(ValueError, match="unknown system 'tim'; did you mean 'timm'"):
        convert(peer, tmp_path / "out", to="tim")
    assert not list(tmp_path.iterdir())
    (tmp_path / "there").mkdir()
    with pytest.raises(ValueError, match="there exists; choose another name"):
        convert(peer, tmp_path / "there", to="volo")


# The layer by itself


class ExternalAttention(TimmOutlookAttention):
    """External-Attention-pytorch's layer: the authors', with another name and ``nn.Unfold``'s arguments by position."""

    def __init__(self, dim, num_heads, kernel_size=3, padding=1, stride=1):
        super().__init__(dim, num_heads, kernel_size, padding, stride, attn_drop=0.1)
        self._modules["v_pj"] = self._modules.pop("v")
        self.unfold = nn.Unfold(kernel_size, padding, stride)

    @property
    def v(self):
        return self.v_pj


MAP = torch.randn(2, 9, 8, 24, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("settings", [{}, {"stride": 2}, {"kernel_size": 5, "padding": 2}])
def test_the_authors_layer_gives_the_same_outputs_here(settings):
    theirs = TimmOutlookAttention(24, 4, **settings).eval()  # timm's is the authors', name for name
    expected = theirs(MAP)
    assert_close(outlook_attention_layer(theirs).eval()(MAP), expected, atol=1e-6, rtol=0)
    ours = outlook_attention_layer(theirs.state_dict(), num_heads=4, stride=settings.get("stride"))
    assert_close(ours(MAP), expected, atol=1e-6, rtol=0)


def test_external_attentions_layer_gives_the_same_outputs_at_stride_1_and_padding_1():
    theirs = ExternalAttention(24, num_heads=4).eval()
    ours = outlook_attention_layer(theirs).eval()
    assert_close(ours(MAP), theirs(MAP), atol=1e-6, rtol=0)
    assert ours.attn_drop == 0.1
    assert_close(outlook_attention_layer(theirs.state_dict(), num_heads=4)(MAP), theirs(MAP), atol=1e-6, rtol=0)


@pytest.mark.parametrize("settings", [{"stride": 2}, {"padding": 2}, {"kernel_size": 5, "padding": 2}])
def test_external_attentions_layer_with_other_settings_is_an_error(settings):
    theirs = ExternalAttention(24, num_heads=4, **settings)
    with pytest.raises(
        ValueError, match=r"nn\.Unfold as dilation and padding: .* at kernel_size 3, stride 1 and padding 1"
    ):
        outlook_attention_layer(theirs)


def test_settings_that_outlook_attention_does_not_have_are_an_error():
    with pytest.raises(ValueError, match=r"has no v\.bias: build the other layer with qkv_bias=False"):
        outlook_attention_layer(TimmOutlookAttention(24, 4, qkv_bias=True))
    with pytest.raises(ValueError, match="the padding must be 1 for windows of 3, not 0"):
        outlook_attention_layer(TimmOutlookAttention(24, 4, padding=0))
    scaled = TimmOutlookAttention(24, 4)
    scaled.scale = 1.0
    with pytest.raises(ValueError, match=r"the scale must be .* = 0\.408248, not 1"):
        outlook_attention_layer(scaled)
    state = scaled.state_dict()
    with pytest.raises(ValueError, match="does not show the number of heads: give num_heads"):
        outlook_attention_layer(state)
    with pytest.raises(ValueError, match="324 attention weights are not 5 heads"):
        outlook_attention_layer(state, num_heads=5)
    with pytest.raises(ValueError, match="Linear is not an outlook attention: it has no num_heads"):
        outlook_attention_layer(nn.Linear(3, 3))
    with pytest.raises(ValueError, match=r"not an outlook attention of the authors .*: it lacks v\.weight"):
        outlook_attention_layer({"w": torch.ones(1)}, num_heads=1)


# The .h5 files of keras_cv_attention_models


@pytest.mark.parametrize("whole", [False, True])
def test_keras_weights_give_the_logits_of_the_weights_they_were_made_of(tmp_path, whole):
    from peers import write_keras

    peer = randomize(timm_from_config(VARIANTS["volo_d1_224"], img_size=(32, 32), num_classes=7)).eval()
    path = tmp_path / "volo_d1_224_imagenet.h5"
    write_keras(path, peer.state_dict(), heads=(6, 12), whole=whole)
    trained = load_model(path)
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert_close(trained.model(x), peer(x), atol=2e-5, rtol=0)
    assert trained.model.config.depths == (4, 4, 8, 2)


def test_an_unexpected_array_of_keras_is_an_error(tmp_path):
    """Ignoring it, such as the bias of a query, would change the logits."""
    import h5py
    from peers import write_keras

    peer = timm_from_config(VARIANTS["volo_d1_224"], img_size=(32, 32), num_classes=7)
    path = tmp_path / "a.h5"
    write_keras(path, peer.state_dict(), heads=(6, 12), whole=False)
    with h5py.File(path, "a") as file:
        file.create_dataset("MHSA_block3_attn_mhsa/MHSA_block3_attn_mhsa/query/bias:0", data=np.ones((12, 32), "f4"))
        file.create_dataset("adapter/adapter/kernel:0", data=np.ones((3, 3), "f4"))
    with pytest.raises(ValueError, match=r"it has unexpected MHSA_block3_attn_mhsa/query/bias, adapter/kernel$"):
        load_model(path)


def test_bad_keras_files_are_one_line(tmp_path):
    import h5py

    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("conv1_conv/conv1_conv/kernel:0", data=np.zeros(3))
    with pytest.raises(ValueError, match=r"a\.h5 is not a VOLO of keras_cv_attention_models: it has no stem_1_conv"):
        load_model(path)
    with h5py.File(path, "w") as file:  # a petabyte of which nothing is stored
        file.create_dataset("stem_1_conv/kernel:0", shape=(1 << 48,), dtype="f4", chunks=(1 << 20,))
    with pytest.raises(ValueError, match=r"claims 1,125,899,906,842,624 bytes in a file of .*; nothing was read"):
        load_model(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"a\.h5 is a damaged HDF5 file"):
        load_model(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("stem_1_conv/kernel:0", data=["text"])
    with pytest.raises(ValueError, match=r"a\.h5 is a damaged HDF5 file: kernel:0 holds object, not floating-point"):
        load_model(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("stem_1_conv/kernel:0", data=np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"a\.h5 is not a VOLO .*: an array has another shape: axes don't match array"):
        load_model(path)
