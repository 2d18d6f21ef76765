"""The models that can be measured: VOLO models and their files, exported files, and any model of timm."""

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


class VOLOModel:
    """A VOLO model: a model name (random weights) or a trained model."""

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

    def runtimes(self, requested: Sequence[str]) -> list[str]:
        """Return the requested runtimes that can run the model: all of them."""
        return list(requested)

    def save(self, folder: Path) -> tuple[str, str | None]:
        """Write the files that a worker process builds the model from.

        Args:
            folder: an empty folder.

        Returns:
            ``source`` and ``weights`` of :class:`volo.bench.worker.Measurement`.
        """
        if self._model is not None:
            return self.name, None
        model = self._built()
        classes = tuple(map(str, range(model.config.num_classes)))
        save_model(folder, model.config, model.state_dict(), class_names=classes, preprocessing={"size": self.size[1:]})
        return str(folder), None

    def graph(self) -> nn.Module:
        """Return the module to export, of standard operators: normalized images (B, C, H, W) to logits."""
        return Graph(self._built(), self.size[1:])

    def _built(self) -> VOLO:
        return self._model or create_model(self.name, img_size=self.size[1:])


class TimmModel:
    """A model of timm with random weights."""

    float32 = True

    def __init__(self, name: str, pixels: int | None) -> None:
        from volo.bench.timm_models import input_size

        self.name = name
        channels, height, width = input_size(name.removeprefix(TIMM))
        self.size = (channels, pixels or height, pixels or width)

    def runtimes(self, requested: Sequence[str]) -> list[str]:
        """Return the requested runtimes that can run the model: all of them."""
        return list(requested)

    def save(self, folder: Path) -> tuple[str, str | None]:
        """Write the weights; see :meth:`VOLOModel.save`."""
        path = folder / WEIGHTS_FILE
        save_file({name: tensor.clone() for name, tensor in self.graph().state_dict().items()}, path)
        return self.name, str(path)

    def graph(self) -> nn.Module:
        """Return the module to export: normalized images (B, C, H, W) to logits."""
        from volo.bench.timm_models import create

        return create(self.name.removeprefix(TIMM), self.size[-1])


class ExportedFile:
    """A file written by ``volo export``."""

    def __init__(self, name: str, pixels: int | None, *, trust: bool) -> None:
        self.name, self.trust = name, trust
        self.exported = parse_description(open_runtime(name, trust=trust).description, name)
        preprocessing = self.exported.preprocessing
        height, width = preprocessing.size
        if pixels and (height, width) != (pixels, pixels) and not self.exported.any_size:
            raise ValueError(
                f"{name} takes only images of {height} × {width} pixels; omit --size, or export the model again"
            )
        self.size = (preprocessing.channels, pixels or height, pixels or width)
        self.float32 = self.exported.precision == "fp32"

    def runtimes(self, requested: Sequence[str]) -> list[str]:
        """Return the requested runtimes that can open the file; if there are none, the runtime it is made for."""
        able = {".onnx": ["onnxruntime", "openvino"], ".xml": ["openvino"], ".pt2": ["file"]}[Path(self.name).suffix]
        return [name for name in requested if name in able] or able[:1]


#: Models that are built in the benchmark, and exported for the runtimes that need it.
BuiltModel = VOLOModel | TimmModel
#: Every model has: ``name``, as the user wrote it; ``size``, (C, H, W) of its images; ``float32``, whether it computes
#: in float32.
Model = BuiltModel | ExportedFile


def find_model(name: str, pixels: int | None = None, *, trust: bool = False) -> Model:
    """Return the model with a name.

    Args:
        name: one of :func:`volo.list_models` (random weights); a source of :func:`volo.load_model`; an exported file;
            or ``timm:NAME`` (random weights).
        pixels: height and width of its images; None takes the size that the model is made for.
        trust: whether an exported ``.pt2`` file may run code that is in it.

    Raises:
        ValueError: The model does not exist, or it does not accept images of this size.
    """
    if name.startswith(TIMM):
        return TimmModel(name, pixels)
    if is_exported(name):
        return ExportedFile(name, pixels, trust=trust)
    return VOLOModel(name, pixels)
