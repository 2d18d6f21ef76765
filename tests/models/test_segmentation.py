import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile
from torch.testing import assert_close

import volo
from volo.models import create_model, create_segmenter
from volo.models.segmentation import DECODERS
from volo.ops.native import library

LIBRARY = library.load()


def segmenter(**options):
    torch.manual_seed(0)
    return create_segmenter("volo_micro_32", **{"num_classes": 5, "img_size": 64, "decoder_channels": 16, **options})


@pytest.fixture(scope="module")
def kept():
    return segmenter().eval()


@settings(max_examples=12, deadline=None)
@given(height=st.integers(1, 100), width=st.integers(1, 100))
def test_any_rectangle_is_padded_and_cropped_back(kept, height, width):
    images = torch.randn(1, 3, height, width)
    padded = F.pad(images, (0, -width % 32, 0, -height % 32))
    with torch.no_grad():
        logits = kept(images)
        assert logits.shape == (1, 5, height, width)
        assert_close(logits, kept(padded)[..., :height, :width])


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_learns_with_all_weights(decoder):
    model = segmenter(decoder=decoder, decoder_channels=16 if DECODERS[decoder] else None)
    logits = model.forward_with_aux(torch.randn(2, 3, 60, 90))
    assert logits.main.shape == logits.aux.shape == (2, 5, 60, 90)
    (F.cross_entropy(logits.main, torch.ones(2, 60, 90).long()) + logits.aux.square().sum()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None]


def test_the_decoder_is_that_of_segmentation_models_pytorch():
    volo.register_with_smp()
    theirs = smp.UPerNet("volo_micro_32", encoder_weights=None, classes=5, decoder_channels=16).eval()
    ours = segmenter(img_size=32).eval()
    weights = ours.state_dict() | {
        name.replace("encoder.", "backbone.").replace("segmentation_head.0", "head.1"): tensor
        for name, tensor in theirs.state_dict().items()
    }
    ours.load_state_dict(weights)
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        quarter = theirs.segmentation_head[0](theirs.decoder(theirs.encoder(images)))
        assert_close(ours(images), F.interpolate(quarter, (64, 96), mode="bilinear", align_corners=False))


def test_gradients_are_the_same_with_checkpointing():
    images, gradients = torch.randn(2, 3, 64, 64), []
    for saves in (False, True):
        model = segmenter()
        model.set_grad_checkpointing(saves)
        torch.manual_seed(1)  # of the heads' dropout
        model.forward_with_aux(images).main.square().mean().backward()
        gradients.append([p.grad for p in model.backbone.parameters()])
    assert_close(*gradients)


@pytest.mark.parametrize("kind", ["module", "file", "run"])
def test_the_backbone_starts_from_a_classifiers_weights_of_any_source(kind, tmp_path, caplog):
    classifier = create_model("volo_micro_32", num_classes=7)
    source = classifier
    if kind == "file":
        source = tmp_path / "weights.pth"
        torch.save({"state_dict": {f"module.{k}": v for k, v in classifier.state_dict().items()}}, source)
    elif kind == "run":
        volo.TrainedModel(model=classifier, class_names=tuple("abcdefg"), preprocessing={}).save_pretrained(tmp_path)
        source = tmp_path
    model = segmenter(img_size=32, pretrained=source).eval()
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        theirs = classifier.eval().forward_feature_maps(images)
        assert_close(model.backbone.volo.forward_feature_maps(images), theirs)
    assert "heads of 7 classes left out" in caplog.text


def largest_allocation(attention, tokens, backend):
    """Return the peak memory of forward and backward, as a multiple of the size of a map."""
    attention.backend = backend
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        attention(tokens).sum().backward()
    events = profiler.profiler.kineto_results.events()
    return max(event.nbytes() for event in events if event.name() == "[memory]") / tokens.nbytes


@pytest.mark.skipif(isinstance(LIBRARY, str), reason=str(LIBRARY))
def test_outlook_attention_at_1024_pixels_needs_no_im2col():
    attention = create_model("volo_micro_32", patch_size=8, num_classes=0).network[0][0].attn
    tokens = torch.randn(1, 128, 128, 64, requires_grad=True)
    assert largest_allocation(attention, tokens, "slices") == 2.25  # windows laid side by side are seen
    assert largest_allocation(attention, tokens, None) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder": "upernett"}, "unknown decoder 'upernett'; did you mean 'upernet'"),
        ({"decoder": "unet"}, "unet has maps of fixed widths: leave out decoder_channels"),
        ({"decoder_channels": 0}, "decoder_channels must be an integer of 1 to 65,536, not 0"),
        ({"num_classes": 1}, "at least two classes and at most 1,000,000, not 1"),
        ({"patch_size": 6}, "need a patch_size of 2, 4, 8 or 16, not 6"),
        ({"hads": (2, 4)}, "unknown model argument 'hads'; did you mean 'heads'"),
    ],
)
def test_an_impossible_model_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        segmenter(**options)


def test_images_of_another_shape_are_an_error(kept):
    with pytest.raises(ValueError, match=r"images must be \(B, 3, H, W\), not \(3, 64, 64\)"):
        kept(torch.zeros(3, 64, 64))
    with pytest.raises(ValueError, match=r"images must be \(B, 3, H, W\), not \(1, 4, 64, 64\)"):
        kept(torch.zeros(1, 4, 64, 64))
