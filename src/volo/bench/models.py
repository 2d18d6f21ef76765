"""What is measured, as a person names it: our models and files of ours, exported files, and any model of timm's."""

from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from volo.bench.worker import TIMM
from volo.export.graph import Graph
from volo.models import VARIANTS, VOLO, create_model, load_model
from volo.models.factory import model_config
from volo.models.weights.model_folder import WEIGHTS_FILE, save_model
from volo.runtime.export_info import is_exported, parse_description
from volo.runtime.runtimes import open_runtime


class Ours:
    """A VOLO: of a size, its weights being random, or trained."""

    float32 = True

    def __init__(self, name: str, pixels: int | None) -> None:
        self.name = name
        self._model: VOLO | None = None
        if not Path(name).exists() and any(name in (full, full.rpartition("_")[0]) for full in VARIANTS):
            config = model_config(name)
        else:
            self._model = load_model(name).model
            config = self._model.config
        height, width = (pixels, pixels) if pixels else config.img_size
        self.size = (config.in_chans, height, width)

    def runtimes(self, asked: Sequence[str]) -> list[str]:
        """Those asked for that can run it."""
        return list(asked)

    def save(self, folder: Path) -> tuple[str, str | None]:
        """Write what a process builds it from into an empty folder: the source, and a file of weights beside it."""
        if self._model is not None:
            return self.name, None
        model = self._built()
        classes = tuple(map(str, range(model.config.num_classes)))
        save_model(folder, model.config, model.state_dict(), class_names=classes, preprocessing={"size": self.size[1:]})
        return str(folder), None

    def graph(self) -> nn.Module:
        """What is exported of it, in standard operators: images (B, C, H, W), normalized, to logits."""
        return Graph(self._built(), self.size[1:])

    def _built(self) -> VOLO:
        return self._model or create_model(self.name, img_size=self.size[1:])


class TimmModel:
    """A model of timm's, its weights being random."""

    float32 = True

    def __init__(self, name: str, pixels: int | None) -> None:
        from volo.bench.timm_models import input_size

        self.name = name
        channels, height, width = input_size(name.removeprefix(TIMM))
        self.size = (channels, pixels or height, pixels or width)

    def runtimes(self, asked: Sequence[str]) -> list[str]:
        """Those asked for that can run it."""
        return list(asked)

    def save(self, folder: Path) -> tuple[str, str | None]:
        """See :meth:`Ours.save`."""
        path = folder / WEIGHTS_FILE
        save_file({name: tensor.clone() for name, tensor in self.graph().state_dict().items()}, path)
        return self.name, str(path)

    def graph(self) -> nn.Module:
        """What is exported of it."""
        from volo.bench.timm_models import create

        return create(self.name.removeprefix(TIMM), self.size[-1])


class ExportedFile:
    """A file that ``volo export`` wrote."""

    def __init__(self, name: str, pixels: int | None) -> None:
        self.name, self.exported = name, parse_description(open_runtime(name).description, name)
        preprocessing = self.exported.preprocessing
        height, width = preprocessing.size
        if pixels and (height, width) != (pixels, pixels) and not self.exported.any_size:
            raise ValueError(
                f"{name} takes images of {height} × {width} pixels alone; leave out --size, or export anew"
            )
        self.size = (preprocessing.channels, pixels or height, pixels or width)
        self.float32 = self.exported.precision == "fp32"

    def runtimes(self, asked: Sequence[str]) -> list[str]:
        """Those asked for that take such a file; where there are none, the one it is for."""
        able = {".onnx": ["onnxruntime", "openvino"], ".xml": ["openvino"], ".pt2": ["file"]}[Path(self.name).suffix]
        return [name for name in asked if name in able] or able[:1]


#: Each has its name as it was named, the size (C, H, W) of the images it is given, and whether it computes in float32.
Model = Ours | TimmModel | ExportedFile


def find_model(name: str, pixels: int | None = None) -> Model:
    """The model of a name.

    Args:
        name: one of :func:`volo.list_models`, whose weights are then random; a source of :func:`volo.load_model`; an
            exported file; ``timm:NAME``, with random weights.
        pixels: side of its images; None: what it is made for.

    Raises:
        ValueError: there is no such model, or it takes no such images.
    """
    if name.startswith(TIMM):
        return TimmModel(name, pixels)
    if is_exported(name):
        return ExportedFile(name, pixels)
    return Ours(name, pixels)
