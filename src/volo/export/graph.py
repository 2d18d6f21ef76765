"""The exported module: a model of fused layers and standard operators, with optional pre- and postprocessing.

Outlook attention runs as slices (``volo.ops.slices``), not as unfold and fold, so that the graph contains neither
Col2Im nor a custom operator.

Shape letters: B batch, H W image, h w tokens, K classes.
"""

from collections.abc import Sequence
from copy import deepcopy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from volo.data import Preprocessing
from volo.export.resize import PhotoCrop
from volo.fused.model import FusedVOLO
from volo.layers import OutlookAttention, resize_position_embedding
from volo.models import VOLO
from volo.models.pyramid import STRIDES


class GraphVOLO(FusedVOLO):
    """A VOLO of inference layers whose position embeddings fit one image size, or are resized in the graph.

    Args:
        model: the model; it is not changed.
        size: (height, width) of the images in pixels; None for any size.
    """

    def __init__(self, model: VOLO, size: tuple[int, int] | None) -> None:
        super().__init__(model, pack=False)
        self.resizes = size is None
        for outlooker in self.network[0].children():
            outlooker.backend = "slices"  # type: ignore[assignment]
        if size is not None:
            # The number of tokens: the stem's first halving rounds up, and the two later steps round down.
            half = self.config.patch_size // 2
            tokens = tuple((side + 1) // 2 // half // 2 for side in size)
            resized = resize_position_embedding(self.pos_embed, (tokens[0], tokens[1]))
            self.pos_embed = nn.Parameter(resized.contiguous(), requires_grad=False)

    def _coarsen(self, fine: Tensor) -> Tensor:
        coarse = self.network[1](fine)
        if not self.resizes:
            return coarse + self.pos_embed
        # There is no branch for the trained size, since a graph cannot branch; at that size resizing changes nothing.
        positions = self.pos_embed.permute(0, 3, 1, 2)
        resized = F.interpolate(positions, size=coarse.shape[1:3], mode="bicubic", align_corners=False)
        return coarse + resized.permute(0, 2, 3, 1)


class Graph(nn.Module):
    """The exported module: images to logits (B, K), or to the logits of every pixel (B, K, H, W).

    Args:
        model: a VOLO with heads, or a segmentation model.
        size: (height, width) of the images in pixels; None for any size.
        preprocessing: if given, images are (B, H, W, channels) uint8, 0–255, and the graph normalizes them. If None,
            they are (B, channels, H, W) float32, normalized.
        resize: images are photos of any size, and the graph resizes and crops them before it normalizes them.
        softmax: return probabilities over the classes instead of logits.
        tokens: also return the logits of every patch token, (B, h, w, K).
        dtype: dtype of the weights and of the computation; a float input and the outputs stay float32.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        size: tuple[int, int] | None,
        *,
        preprocessing: Preprocessing | None = None,
        resize: bool = False,
        softmax: bool = False,
        tokens: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.normalizes, self.softmax, self.tokens = preprocessing is not None, softmax, tokens
        self.dtype = dtype
        model = deepcopy(model).to(dtype).eval()
        self.model = GraphVOLO(model, size) if isinstance(model, VOLO) else _rewritten(model, size, STRIDES[-1])
        self.crop: PhotoCrop | None = None
        if preprocessing is not None:
            self.crop = PhotoCrop(preprocessing) if resize else None
            for name, values in (("mean", preprocessing.mean), ("std", preprocessing.std)):
                self.register_buffer(name, torch.tensor([255 * value for value in values]).view(1, -1, 1, 1))
        _own_memory(self)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if self.normalizes:
            pixels = images.permute(0, 3, 1, 2).float() if self.crop is None else self.crop(images)
            images = (pixels - self.mean) / self.std
        images = images.to(self.dtype)
        if not isinstance(self.model, GraphVOLO):
            return self._scores(self.model(images))
        cls, tokens = self.model.plain_heads(images)
        scores = self._scores(cls + 0.5 * tokens.flatten(1, 2).amax(dim=1))
        return (scores, tokens.float()) if self.tokens else scores

    def _scores(self, logits: Tensor) -> Tensor:
        logits = logits.float()
        return logits.softmax(dim=1) if self.softmax else logits


class AdaptiveMean(nn.Module):
    """``AdaptiveAvgPool2d`` for a graph of any size: (B, C, H, W) to (B, C, *size), as two matrix products.

    ONNX has no such operator, and PyTorch exports it in a form that runs only at the traced size.

    Args:
        size: height and width of the output.
    """

    def __init__(self, size: int | tuple[int, int]) -> None:
        super().__init__()
        self.rows, self.columns = (size, size) if isinstance(size, int) else size

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self._weights(self.rows, x.shape[2], x), self._weights(self.columns, x.shape[3], x)
        return rows @ x @ columns.T

    @staticmethod
    def _weights(bins: int, length: int, like: Tensor) -> Tensor:
        """Return the weight of each position in the mean of each bin, (bins, length)."""
        position = torch.arange(length, device=like.device)
        number = torch.arange(bins, device=like.device)[:, None]
        first, end = number * length // bins, ((number + 1) * length + bins - 1) // bins
        inside = ((position >= first) & (position < end)).to(like.dtype)
        return inside / inside.sum(dim=1, keepdim=True)


def _rewritten(model: nn.Module, size: tuple[int, int] | None, multiple: int) -> nn.Module:
    """Replace the parts of a module that need another form in a graph, in place, and return the module.

    VOLOs get inference layers; for any size, adaptive poolings become :class:`AdaptiveMean`.

    Args:
        model: the module; the images that its VOLOs receive are padded to a multiple of ``multiple`` pixels.
        size: (height, width) of the images before padding; None for any size.
        multiple: in pixels.
    """
    size = None if size is None else (-(-size[0] // multiple) * multiple, -(-size[1] // multiple) * multiple)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, VOLO):
                setattr(parent, name, GraphVOLO(child, size))
            elif isinstance(child, nn.AdaptiveAvgPool2d) and size is None:
                setattr(parent, name, AdaptiveMean(child.output_size))  # type: ignore[arg-type]  # None nowhere
    for module in model.modules():
        if isinstance(module, OutlookAttention):
            module.backend = "slices"
    return model


def _own_memory(module: nn.Module) -> None:
    """Give every tensor its own memory: archives save whole storages, and warn about views."""
    for tensor in [*module.parameters(), *module.buffers()]:
        tensor.requires_grad_(False)
        tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)


def example(graph: Graph, channels: int, size: Sequence[int], *, batch: int) -> Tensor:
    """Return a batch of gray images in the graph's input format.

    Args:
        graph: the graph.
        channels: number of channels.
        size: (height, width).
        batch: number of images.
    """
    if graph.normalizes:
        return torch.full((batch, *size, channels), 128, dtype=torch.uint8)
    return torch.zeros(batch, channels, *size)
