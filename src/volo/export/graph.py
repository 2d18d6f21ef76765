"""The model as it is exported: standard operators alone, weights fused, and what may stand around it.

Outlook attention is written as slices (``volo.ops.slices``), not as unfold and fold: no Col2Im, no custom operator.

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
    """A VOLO of inference layers whose position embeddings are laid out for one size, or resized in the graph."""

    def __init__(self, model: VOLO, size: tuple[int, int] | None) -> None:
        """For images of ``size``; None for any."""
        super().__init__(model, pack=False)
        self.resizes = size is None
        for outlooker in self.network[0].children():
            outlooker.backend = "slices"  # type: ignore[assignment]
        if size is not None:
            # As the stem halves rounding up, and the two steps after it round down.
            half = self.config.patch_size // 2
            tokens = tuple((side + 1) // 2 // half // 2 for side in size)
            resized = resize_position_embedding(self.pos_embed, (tokens[0], tokens[1]))
            self.pos_embed = nn.Parameter(resized.contiguous(), requires_grad=False)

    def _coarsen(self, fine: Tensor) -> Tensor:
        coarse = self.network[1](fine)
        if not self.resizes:
            return coarse + self.pos_embed
        # Without asking whether the size is the trained one, where this changes nothing: a graph has no such branch.
        positions = self.pos_embed.permute(0, 3, 1, 2)
        resized = F.interpolate(positions, size=coarse.shape[1:3], mode="bicubic", align_corners=False)
        return coarse + resized.permute(0, 2, 3, 1)


class Graph(nn.Module):
    """What is exported: images to logits (B, K), or to scores (B, K, H, W) of every pixel.

    Args:
        model: a VOLO with heads, or a segmentation model.
        size: (height, width) of the images; None for any.
        preprocessing: where given, images are (B, H, W, channels) uint8, 0–255, and normalized here; else they are
            (B, channels, H, W) float32, normalized.
        resize: images are photos of any size, resized and cropped here before they are normalized.
        softmax: give probabilities over the classes in the place of logits.
        tokens: give the logits of every patch token as well, (B, h, w, K).
        half: hold the weights, and compute, in float16; input and output stay float32.
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
        half: bool = False,
    ) -> None:
        super().__init__()
        self.normalizes, self.softmax, self.tokens = preprocessing is not None, softmax, tokens
        self.dtype = torch.float16 if half else torch.float32
        model = deepcopy(model).to(self.dtype).eval()
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
    """``AdaptiveAvgPool2d`` for a graph of any size: (B, C, H, W) to (B, C, *size), as products with weights of 1/n.

    ONNX has no such operator, and what PyTorch writes in its place runs at the traced size alone.
    """

    def __init__(self, size: int | tuple[int, int]) -> None:
        super().__init__()
        self.rows, self.columns = (size, size) if isinstance(size, int) else size

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self._weights(self.rows, x.shape[2], x), self._weights(self.columns, x.shape[3], x)
        return rows @ x @ columns.T

    @staticmethod
    def _weights(bins: int, length: int, like: Tensor) -> Tensor:
        """(bins, length): what each place counts in the mean of each bin."""
        place = torch.arange(length, device=like.device)
        number = torch.arange(bins, device=like.device)[:, None]
        first, end = number * length // bins, ((number + 1) * length + bins - 1) // bins
        inside = ((place >= first) & (place < end)).to(like.dtype)
        return inside / inside.sum(dim=1, keepdim=True)


def _rewritten(model: nn.Module, size: tuple[int, int] | None, multiple: int) -> nn.Module:
    """A module with its VOLOs replaced by those of inference layers; they see images padded to a multiple of pixels."""
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
    """Lay every tensor out by itself: archives keep whole storages, and warn of views of them."""
    for tensor in [*module.parameters(), *module.buffers()]:
        tensor.requires_grad_(False)
        tensor.data = tensor.data.clone(memory_format=torch.contiguous_format)


def example(graph: Graph, channels: int, size: Sequence[int], *, batch: int) -> Tensor:
    """A batch of gray images as the graph takes them."""
    if graph.normalizes:
        return torch.full((batch, *size, channels), 128, dtype=torch.uint8)
    return torch.zeros(batch, channels, *size)
