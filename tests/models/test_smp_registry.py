import pytest
import segmentation_models_pytorch as smp
import torch
from torch.testing import assert_close

import volo
from volo.models import VARIANTS, create_model


@pytest.fixture(autouse=True)
def registered():
    assert set(VARIANTS) | {"volo_d1"} < set(volo.register_with_smp())
    assert volo.register_with_smp() == volo.register_with_smp()


def test_a_unet_has_a_volo_for_its_encoder():
    model = smp.Unet("volo_micro", encoder_weights=None, classes=3, in_channels=1)
    images = torch.randn(2, 1, 64, 96)
    assert model(images).shape == (2, 3, 64, 96)
    features = model.encoder(images)
    assert features[0] is images
    assert [tuple(f.shape[1:]) for f in features[1:]] == [(c, 64 // s, 96 // s) for c, s in zip(
        model.encoder.out_channels[1:], (2, 4, 8, 16, 32), strict=True)]  # fmt: skip
    assert model.encoder.out_channels[1] == 0


def test_a_smaller_depth_returns_fewer_maps():
    model = smp.Unet("volo_micro_32", encoder_weights=None, encoder_depth=4, decoder_channels=(32, 16, 8, 4))
    assert len(model.encoder(torch.randn(1, 3, 64, 64))) == 5
    assert model.eval()(torch.randn(1, 3, 64, 64)).shape == (1, 1, 64, 64)


def test_a_classifiers_weights_load_into_the_encoder():
    classifier = create_model("volo_micro_32").eval()
    encoder = smp.encoders.get_encoder("volo_micro_32").eval()
    encoder.load_state_dict(classifier.state_dict())
    images = torch.randn(1, 3, 64, 64)
    assert_close(encoder.volo.forward_feature_maps(images), classifier.forward_feature_maps(images))
    encoder.load_state_dict(encoder.state_dict())  # its own, too


def test_published_weights_are_those_of_the_name():
    settings = smp.encoders.encoders["volo_d4"]["pretrained_settings"]
    assert settings["imagenet"]["repo_id"] == "timm/volo_d4_224.sail_in1k"
    with pytest.raises(KeyError, match="Wrong pretrained weights"):
        smp.Unet("volo_micro_32", encoder_weights="imagenet")  # nobody has published any


def test_dilation_is_an_error():
    with pytest.raises(ValueError, match="cannot be dilated to an output stride of 8"):
        smp.DeepLabV3("volo_micro_32", encoder_weights=None)
