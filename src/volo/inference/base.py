"""The common base of ``Predictor`` and ``Segmenter``: it opens a trained model or an exported file."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from volo.fused.optimize import optimize_for_inference
from volo.inference.image_inputs import preprocessing_of
from volo.models import TrainedModel, TrainedSegmenter
from volo.models.segmentation import backbone_of
from volo.runtime.devices import find_device
from volo.runtime.export_info import ExportInfo
from volo.runtime.forks import is_forked, limit_threads_if_forked, watch_forks
from volo.runtime.forward import ExportedModel, ModuleForward, open_exported

Trained = TypeVar("Trained", TrainedModel, TrainedSegmenter)


class ModelRunner(ABC, Generic[Trained]):
    """An opened model of one task that computes logits.

    Args:
        path: trained model or exported file; see the subclasses.
        device: device that computes; None selects an accelerator if there is one. Exported files run on the CPU.
        threads: number of CPU threads; None keeps the runtime's default.
        runtime: pytorch or compile, or a runtime of exported files; None selects the model's default.
        trust: whether a ``.pt2`` file may run code that is in it; AOTInductor's packages need this.

    Attributes:
        model: the trained model as it was saved, in evaluation mode, on ``device``; None for an exported file.
        device: device that computes.
        class_names: names of the classes, in the order of the outputs.
        preprocessing: preprocessing of images for the model.

    Raises:
        ValueError: There is no such model, it is of another task, or the device or runtime is unknown or does not fit.
    """

    #: Task of the models that the class opens.
    _task: ClassVar[str]
    model: nn.Module | None

    def __init__(
        self,
        path: str | Path | ExportedModel,
        *,
        device: str | torch.device | None,
        threads: int | None,
        runtime: str | None,
        trust: bool,
    ) -> None:
        limit_threads_if_forked()
        watch_forks()
        self._source, self._compiled = path, runtime == "compile"
        self._description: Trained | ExportInfo
        self._forward: Callable[[Tensor], Tensor]
        exported = open_exported(path, device=device, threads=threads, runtime=runtime, trust=trust)
        if exported is not None:
            exported.check_task(self._task, type(self).__name__)
            self._description, self._forward = exported.info, exported
            self.device, self.model = torch.device("cpu"), None
            self.class_names, self.preprocessing = exported.info.class_names, exported.info.preprocessing
            return
        assert not isinstance(path, ExportedModel)
        self.device = find_device(device)
        self._description = trained = self._load(path)
        model = trained.model.to(self.device)
        self.model, self.class_names = model, trained.class_names
        self.preprocessing = preprocessing_of(trained.preprocessing, backbone_of(model).config.in_chans, path)
        optimized = optimize_for_inference(model, compile=runtime == "compile")
        self._forward = ModuleForward(optimized, self.preprocessing, device=self.device, threads=threads)

    def _prepare_process(self) -> None:
        """Make sure that the model can compute in this process; every method that computes calls it first.

        Raises:
            RuntimeError: The model is compiled, and the process was forked after a model was loaded.
        """
        if self._compiled and is_forked():
            raise RuntimeError(
                "a compiled model cannot run in a process that was forked after a model was loaded; load it without "
                "runtime='compile', or start processes with spawn"
            )
        limit_threads_if_forked()

    @abstractmethod
    def _load(self, path: str | Path) -> Trained:
        """Load a trained model. Raises ValueError."""
