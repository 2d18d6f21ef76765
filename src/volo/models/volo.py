"""The Vision Outlooker (VOLO), the network.

Shape letters: B batch, H W image, h1 w1 stage-1 tokens (H/8 in the paper's sizes), h2 w2 stage-2 tokens
(H/16), C1 C2 channels of the stages, K classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from volo.layers import ClassBlock, Downsample, Outlooker, PatchEmbed, Transformer, resize_position_embedding
from volo.models.config import VOLOConfig

#: Size of the cache of resized position embeddings, one entry for each token grid. This is enough for the scales of
#: multi-scale testing and for a few photos.
_SIZES_KEPT = 16


class Features(NamedTuple):
    """Outputs of the network before its heads, normalized: ``cls`` (B, C2) and ``tokens`` (B, h2, w2, C2)."""

    cls: Tensor
    tokens: Tensor


class Logits(NamedTuple):
    """Outputs of the heads: ``cls`` (B, K) of the class token and ``tokens`` (B, h2, w2, K) of the patch tokens."""

    cls: Tensor
    tokens: Tensor


class VOLO(nn.Module):
    """Vision Outlooker: Outlookers on a fine token grid, then transformer blocks on a grid half as fine.

    Images are (B, in_chans, H, W), floating, normalized, of any height and width of at least one stage-2 token
    (2·patch_size pixels). The stem halves a side and rounds up; the two steps after the stem round down, and ignore the
    pixels beyond whole tokens. Parameter names and shapes are those of the authors' and of timm's checkpoints.

    Attributes:
        config: the architecture.
        feature_channels: channels of the maps of :meth:`forward_feature_maps`.
        feature_strides: strides of these maps, in image pixels.
        grad_checkpointing: see :meth:`set_grad_checkpointing`.

    Source: VOLO, arXiv:2106.13112, section 3.
    """

    def __init__(self, config: VOLOConfig) -> None:
        super().__init__()
        self.config = config
        self.feature_channels = config.dims
        self.feature_strides = (config.patch_size, 2 * config.patch_size)
        self.grad_checkpointing = False
        fine, coarse = config.dims

        self.patch_embed = PatchEmbed(config.in_chans, config.stem_width, fine, config.patch_size)
        rates = _drop_path_rates(config)
        outlookers = nn.Sequential(*(self._outlooker(next(rates)) for _ in range(config.depths[0])))
        groups = [nn.Sequential(*(self._transformer(next(rates)) for _ in range(n))) for n in config.depths[1:]]
        self.network = nn.ModuleList([outlookers, Downsample(fine, coarse), *groups])
        grid = [side // (2 * config.patch_size) for side in config.img_size]
        self.pos_embed = nn.Parameter(torch.zeros(1, *grid, coarse))
        self._resized: dict[tuple[int, int], tuple[Tensor, int, Tensor]] = {}
        self.pos_drop = nn.Dropout(config.pos_drop_rate)

        self.cls_token = nn.Parameter(torch.zeros(1, 1, coarse))
        self.post_network = nn.ModuleList(self._class_block() for _ in range(config.class_depth))
        self.norm = nn.LayerNorm(coarse)
        self.head, self.aux_head = self._new_head(), self._new_head()
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        self._init_linears(self)

    def _outlooker(self, drop_path: float) -> Outlooker:
        config = self.config
        return Outlooker(
            config.dims[0],
            config.heads[0],
            mlp_ratio=config.mlp_ratio,
            kernel_size=config.outlook_kernel,
            stride=config.outlook_stride,
            attn_drop=config.attn_drop_rate,
            drop_path=drop_path if config.drop_path_outlookers else 0.0,
        )

    def _transformer(self, drop_path: float) -> Transformer:
        config = self.config
        return Transformer(
            config.dims[1],
            config.heads[1],
            mlp_ratio=config.mlp_ratio,
            attn_drop=config.attn_drop_rate,
            drop_path=drop_path,
        )

    def _class_block(self) -> ClassBlock:
        config = self.config
        return ClassBlock(
            config.dims[1],
            config.heads[1],
            mlp_ratio=config.mlp_ratio,
            attn_drop=config.attn_drop_rate,
        )

    def _new_head(self) -> nn.Linear | None:
        return nn.Linear(self.config.dims[1], self.config.num_classes) if self.config.num_classes else None

    def _init_linears(self, root: nn.Module) -> None:
        for module in root.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=self.config.init_std or module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @property
    def num_classes(self) -> int:
        """Outputs of each head; 0 without heads."""
        return self.config.num_classes

    @property
    def num_features(self) -> int:
        """Channels of the class token and of the patch tokens, the inputs of the heads."""
        return self.config.dims[1]

    @property
    def block_channels(self) -> tuple[int, ...]:
        """Channels of the map after each block, the Outlookers first."""
        return self._of_blocks(self.feature_channels)

    @property
    def block_strides(self) -> tuple[int, ...]:
        """Stride, in image pixels, of the map after each block, the Outlookers first."""
        return self._of_blocks(self.feature_strides)

    def _of_blocks(self, stages: tuple[int, int]) -> tuple[int, ...]:
        """Repeat the values of the two stages for each of their blocks."""
        outlookers, *transformers = self.config.depths
        return stages[:1] * outlookers + stages[1:] * sum(transformers)

    def get_classifier(self) -> nn.Linear | None:
        """Return the head of the class token, or None without heads; ``aux_head`` is the head of the patch tokens."""
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """Replace both heads by fresh ones for ``num_classes`` classes, and update ``config``; 0 removes the heads.

        Call this before creating an optimizer: an older optimizer keeps the parameters of the old heads.

        Raises:
            ValueError: ``num_classes`` is not an integer of at least 0; the model is unchanged.
        """
        self.config = replace(self.config, num_classes=num_classes)
        self.head, self.aux_head = self._new_head(), self._new_head()
        for head in (self.head, self.aux_head):
            if head is not None:
                self._init_linears(head)
                head.to(self.norm.weight).train(self.training)

    def keep_feature_maps(self) -> None:
        """Remove the parts that no map depends on: heads, class token and class attention.

        Their parameters would get no gradients. :meth:`forward_feature_maps` and :meth:`get_intermediate_layers` still
        work.
        """
        self.reset_classifier(0)
        self.post_network = nn.ModuleList()
        del self.cls_token

    def no_weight_decay(self) -> set[str]:
        """Return the names of the parameters to train without weight decay, beside those of one dimension."""
        return {"pos_embed", "cls_token"}

    def embed(self, images: Tensor) -> Tensor:
        """Cut images (B, in_chans, H, W) into stage-1 tokens (B, h1, w1, C1).

        Raises:
            ValueError: The images have another layout, another number of channels, or too few pixels.
        """
        config, smallest = self.config, 2 * self.config.patch_size
        if images.ndim != 4 or images.shape[1] != config.in_chans:
            raise ValueError(f"images must be (B, {config.in_chans}, H, W), not {tuple(images.shape)}")
        if images.shape[2] < smallest or images.shape[3] < smallest:
            raise ValueError(
                f"images must be at least {smallest}x{smallest} pixels, not {images.shape[2]}x{images.shape[3]}"
            )
        return self.patch_embed(images)

    def _stages(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the output maps (B, h1, w1, C1) and (B, h2, w2, C2) of both stages from stage-1 tokens."""
        fine = self._blocks(self.network[0], tokens)
        coarse = self._coarsen(fine)
        for group in self.network[2:]:
            coarse = self._blocks(group, coarse)
        return fine, coarse

    def _coarsen(self, fine: Tensor) -> Tensor:
        """Compute the second stage's input: the first stage's map at half the resolution, with position embeddings."""
        coarse = self.network[1](fine)
        return self.pos_drop(coarse + self._positions((coarse.shape[1], coarse.shape[2])))

    def _positions(self, size: tuple[int, int]) -> Tensor:
        """Return position embeddings (1, h2, w2, C2) for a token grid of ``size``; without gradients, from a cache."""
        embedding = self.pos_embed
        uncached = torch.is_grad_enabled() or embedding.is_inference() or torch.compiler.is_compiling()
        if uncached or size == tuple(embedding.shape[1:3]):
            return resize_position_embedding(embedding, size)
        source, version, resized = self._resized.get(size, (None, 0, embedding))
        # An entry is valid while the parameter has the same memory (data_ptr) and was not changed in place (_version).
        # The cache keeps the source tensor alive, so an equal data_ptr means the same tensor and not a new one in freed
        # memory. A dict keeps the order of insertion: the first entry is the oldest one, which a full cache drops.
        if source is None or source.data_ptr() != embedding.data_ptr() or version != embedding._version:
            source, version = embedding.detach(), embedding._version
            resized = resize_position_embedding(source, size)
            self._resized.pop(size, None)
            self._resized[size] = source, version, resized
            if len(self._resized) > _SIZES_KEPT:
                del self._resized[next(iter(self._resized))]
        return resized

    def _blocks(self, blocks: nn.Module, tokens: Tensor) -> Tensor:
        """Apply a group of blocks to a map; with gradient checkpointing, only the maps between blocks are stored."""
        if not self._checkpoints:
            return blocks(tokens)
        for block in blocks.children():
            tokens = checkpoint(block, tokens, use_reentrant=False)
        return tokens

    @property
    def _checkpoints(self) -> bool:
        return self.grad_checkpointing and torch.is_grad_enabled()

    def _block_maps(self, tokens: Tensor) -> Iterator[Tensor]:
        """Yield the map after each block of both stages; a map is computed when it is requested."""
        for number, group in enumerate(self.network):
            if number == 1:
                tokens = self._coarsen(tokens)
                continue
            for block in group.children():
                tokens = checkpoint(block, tokens, use_reentrant=False) if self._checkpoints else block(tokens)
                yield tokens

    def train(self, mode: bool = True) -> "VOLO":
        self._resized.clear()  # FSDP reuses memory and version for other values, so old entries would look valid
        super().train(mode)
        return self

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Enable or disable gradient checkpointing: the backward pass recomputes the blocks of both stages.

        Only the maps between the blocks are stored. Gradients are the same and training needs much less memory, but the
        forward pass of the blocks is computed twice.
        """
        self.grad_checkpointing = enable

    def forward_tokens(self, tokens: Tensor) -> Features:
        """Apply both stages and the class attention to stage-1 tokens (B, h1, w1, C1)."""
        _, coarse = self._stages(tokens)
        flat = coarse.flatten(1, 2)
        cls = self.cls_token.expand(flat.shape[0], -1, -1)
        for block in self.post_network:
            cls = block(cls, flat)
        return Features(self.norm(cls.squeeze(1)), self.norm(coarse))

    def forward_features(self, images: Tensor) -> Features:
        """Compute normalized class and patch tokens from images (B, in_chans, H, W)."""
        return self.forward_tokens(self.embed(images))

    def forward_head(self, features: Features) -> Logits:
        """Apply both heads: the class head to the class token, the token head to every patch token.

        Raises:
            RuntimeError: The model has no heads (``num_classes=0``).
        """
        if self.head is None or self.aux_head is None:
            raise RuntimeError("this model has no heads (num_classes=0); use forward_features or forward_feature_maps")
        return Logits(self.head(features.cls), self.aux_head(features.tokens))

    def forward_feature_maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the maps of both stages from images, channels first: (B, C1, h1, w1) and (B, C2, h2, w2)."""
        fine, coarse = self._stages(self.embed(images))
        return fine.permute(0, 3, 1, 2), coarse.permute(0, 3, 1, 2)

    def get_intermediate_layers(
        self, images: Tensor, n: int | Sequence[int] = 1, *, norm: bool = False
    ) -> tuple[Tensor, ...]:
        """Compute the maps after selected blocks of both stages from images, channels first.

        The map after block i is (B, block_channels[i], h, w) and of stride ``block_strides[i]``. The blocks after the
        last selected one are not computed.

        Args:
            images: (B, in_chans, H, W).
            n: the number of blocks, counted from the end; or the indices of blocks, the Outlookers first, negative ones
                counted from the end.
            norm: apply the last LayerNorm to the second stage's maps; the first stage has none.

        Returns:
            One map for each index in ``n``, in the same order.

        Raises:
            ValueError: There are no such blocks.
        """
        count = len(self.block_strides)
        numbers = list(range(count))[-n:] if isinstance(n, int) and 0 < n <= count else n
        if isinstance(numbers, int) or not numbers or not all(-count <= number < count for number in numbers):
            raise ValueError(
                f"n must be 1 to {count} blocks, or indices of blocks from {-count} to {count - 1}, not {n}"
            )
        chosen = [number % count for number in numbers]
        maps = {}
        for number, tokens in enumerate(islice(self._block_maps(self.embed(images)), max(chosen) + 1)):
            if number in chosen:
                fine = number < self.config.depths[0]
                maps[number] = (self.norm(tokens) if norm and not fine else tokens).permute(0, 3, 1, 2)
        return tuple(maps[number] for number in chosen)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (B, K) from images (B, in_chans, H, W).

        They are the class token's logits plus half of the maximum over the patch tokens' logits.
        """
        logits = self.forward_head(self.forward_features(images))
        return logits.cls + 0.5 * logits.tokens.amax(dim=(1, 2))


def _drop_path_rates(config: VOLOConfig) -> Iterator[float]:
    """Return the rate of every block in order, from 0 to ``drop_path_rate``; class blocks have none."""
    last = max(1, sum(config.depths) - 1)
    return (config.drop_path_rate * i / last for i in range(sum(config.depths)))
