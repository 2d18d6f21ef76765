"""Everything that decides a training run, in one frozen tree that is saved beside its results."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

import yaml

from volo.data import BACKGROUND, MODES, AugmentConfig, DataSource, SegmentationAugmentConfig
from volo.messages import nearest
from volo.models.segmentation import check_decoder
from volo.tasks.losses import LossConfig

#: In a run folder: the configuration, and a row of figures for every epoch.
RUN_CONFIG_FILE, METRICS_FILE = "train.json", "metrics.csv"
#: what a run can compute in, as Lightning names them; ``volo.training.checks`` knows which a device can do.
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
OPTIMIZERS = ("adamw", "muon")
#: what can be learned → the figure of validation by which the best epoch is chosen, and what people call it.
MONITORED_METRICS: Mapping[str, tuple[str, str]] = {
    "classification": ("val_top1", "top-1"),
    "segmentation": ("val_miou", "mean IoU"),
}

#: settings of the data that say nothing to segmentation.
_CLASSIFICATION_DATA = ("balanced", "crop_pct", "token_labels")
#: loggers that may run beside ``metrics.csv``.
LOGGERS = ("tensorboard", "wandb", "mlflow")


def monitored_metric(figures: Mapping[str, Any]) -> tuple[str, str]:
    """The figure of a row of ``metrics.csv`` by which the best epoch is chosen, and what people call it.

    Raises:
        ValueError: there is none.
    """
    for score, name in MONITORED_METRICS.values():
        if score in figures:
            return score, name
    raise ValueError(
        f"no epoch was judged: none of {', '.join(score for score, _ in MONITORED_METRICS.values())} is there"
    )


@dataclass(frozen=True, kw_only=True)
class DataConfig(DataSource):
    """The images.

    Attributes:
        path: a folder with a folder for each class (or train and val folders of that form), a table (CSV or TSV) of
            paths and labels, or the name of a data set: ``fashion-mini``, the embedded one, or one of torchvision's.
        val_fraction: share of every class held out for validation where the data have no part for it.
        channels: 1 to read images as gray, 3 as color, 4 as color and transparency; None takes what the data has.
        background: the color behind transparent pixels, by name or as #rrggbb; not used with four channels.
        balanced: draw all classes equally often in every epoch, whatever their sizes.
        crop_pct: share of the shorter side that the center crop of validation keeps; above 1 the image is smaller than
            the crop. None takes 0.96 for images of at least 128 pixels, 1 for smaller ones.
        workers: processes that decode and augment; None takes one for each core but one, 8 at most.
        strict: stop at the first image that cannot be read, instead of warning and going on.
        token_labels: a store that ``volo label`` made of these images, or a folder of the authors' label maps;
            every token then learns its own label. None repeats the image's label for every token.
    """

    path: str = ""
    val_fraction: float = 0.1
    channels: int | None = None
    background: str = BACKGROUND
    balanced: bool = False
    crop_pct: float | None = None
    workers: int | None = None
    strict: bool = False
    token_labels: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.val_fraction < 1.0:
            raise ValueError(f"data.val_fraction must lie between 0 and 1, not {self.val_fraction}")
        if self.channels not in (None, *MODES):
            raise ValueError(
                f"data.channels must be 1 (gray), 3 (color) or 4 (color and transparency), not {self.channels}"
            )
        if self.crop_pct is not None and self.crop_pct <= 0:
            raise ValueError(f"data.crop_pct must be positive, not {self.crop_pct}")
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"data.workers must be at least 0, not {self.workers}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network; None leaves a value as the named variant has it.

    Attributes:
        name: one of ``volo models``.
        pretrained: weights to begin with, as ``create_model`` takes them: a name with its tag
            (``volo_d1_224.sail_in1k``), a file or run folder, or ``hf-hub:owner/repository``. None begins anew.
        freeze: learn the two heads alone (linear probing): everything else keeps its weights and stays in evaluation
            mode, so that its BatchNorm statistics stand still and nothing is dropped.
        img_size: pixels, the side of the square images it is trained on.
        drop_path_rate: stochastic depth of the last block.
        drop_path_outlookers: stochastic depth in the Outlookers too, which the authors' training never had.
        pos_drop_rate: dropout after the position embedding.
        attn_drop_rate: dropout of attention weights.
        patch_size: image pixels along a stage-1 token, even.
        stem_width: channels of the convolutional stem.
        dims: channels of the two stages.
        depths: blocks of the Outlooker stage, then of the three groups of transformer blocks.
        heads: attention heads of the two stages.
        mlp_ratio: hidden width of every MLP by the block's width.
        init_std: standard deviation of the linear layers' first weights.
        grad_checkpointing: keep only the maps between blocks for the backward pass and compute the rest again: much
            less memory, more time, the same gradients. No part of the architecture.
    """

    name: str = "volo_d0_224"
    pretrained: str | None = None
    freeze: bool = False
    img_size: int | None = None
    drop_path_rate: float | None = None
    drop_path_outlookers: bool | None = None
    pos_drop_rate: float | None = None
    attn_drop_rate: float | None = None
    patch_size: int | None = None
    stem_width: int | None = None
    dims: tuple[int, int] | None = None
    depths: tuple[int, int, int, int] | None = None
    heads: tuple[int, int] | None = None
    mlp_ratio: float | None = None
    init_std: float | None = None
    grad_checkpointing: bool = False

    def __post_init__(self) -> None:
        shape = ("stem_width", "dims", "depths", "heads", "mlp_ratio", "init_std")
        changed = [f"model.{key}" for key in shape if getattr(self, key) is not None]
        if self.pretrained is not None and changed:
            raise ValueError(
                f"model.pretrained brings weights of the named model's own shape; leave out {', '.join(changed)}"
            )
        if self.freeze and self.drop_path_rate:
            raise ValueError("model.freeze leaves no block to drop; leave out model.drop_path_rate")

    def overrides(self) -> dict[str, Any]:
        """The arguments for ``create_model`` that were given."""
        others = ("name", "freeze", "grad_checkpointing")
        return {key: value for key, value in asdict(self).items() if key not in others and value is not None}


@dataclass(frozen=True, kw_only=True)
class SegmentationSettings:
    """What is segmentation's alone.

    Attributes:
        decoder: of segmentation-models-pytorch: upernet, fpn, segformer, unet, unetplusplus, manet or linknet.
        decoder_channels: width of the decoder's maps and of the auxiliary head's; None takes the decoder's own, in
            UPerNet 256, and 256 for the head.
        aux_weight: of the auxiliary head's loss beside the decoder's.
        crop: pixels, (height, width) of the crops it is trained on.
        augment: what is done to an image and its mask; ``augment`` outside this section is classification's.
    """

    decoder: str = "upernet"
    decoder_channels: int | None = None
    aux_weight: float = 0.4
    crop: tuple[int, int] = (512, 512)
    augment: SegmentationAugmentConfig = field(default_factory=SegmentationAugmentConfig)

    def __post_init__(self) -> None:
        check_decoder(self.decoder, self.decoder_channels)
        if self.aux_weight < 0:
            raise ValueError(f"segmentation.aux_weight must be at least 0, not {self.aux_weight}")
        if len(self.crop) != 2 or min(self.crop) < 32:
            raise ValueError(f"segmentation.crop must be a height and a width of at least 32 pixels, not {self.crop}")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """The optimizer, and a learning rate that warms up and falls.

    Attributes:
        optimizer: ``adamw``, the paper's; or ``muon``, which learns more from few epochs: it orthogonalizes the
            momentum of every weight matrix and convolution (timm's, scaled to the size of AdamW's steps, so that rates
            are alike), and leaves the heads, embeddings, biases and norms to AdamW.
        schedule: how the rate falls: along a ``cosine``, or ``poly``, along a straight line (a polynomial of power 1).
        lr: the learning rate at its height.
        lr_batch: the global batch size that the rates are meant for: those used are rate · global batch / lr_batch.
            None uses the rates as they are.
        weight_decay: of weights with two or more dimensions; never of biases, norms, ``pos_embed``, ``cls_token``.
        betas: decay of AdamW's two averages; Muon's momentum is 0.95.
        warmup_epochs: epochs of linear warm-up from ``warmup_lr``.
        warmup_steps: optimizer steps of warm-up, in the place of ``warmup_epochs``.
        warmup_lr: where the warm-up begins.
        min_lr: where the fall ends.
        cooldown_epochs: last epochs at ``min_lr``, part of ``epochs``.
        interval: the rate changes with every ``step``, or once an ``epoch`` as in the paper's runs.
        layer_decay: the rate of a layer is this times that of the layer above it; the heads have the whole rate.
            1 gives all layers the same. For fine-tuning.
        ema_decay: decay of the exponential moving average of the weights; 0 keeps none.
    """

    optimizer: Literal["adamw", "muon"] = "adamw"
    schedule: Literal["cosine", "poly"] = "cosine"
    lr: float = 1e-3
    lr_batch: int | None = None
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_epochs: float = 5.0
    warmup_steps: int | None = None
    warmup_lr: float = 1e-6
    min_lr: float = 1e-5
    cooldown_epochs: int = 0
    interval: Literal["step", "epoch"] = "step"
    layer_decay: float = 1.0
    ema_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"unknown optim.optimizer {self.optimizer!r}{nearest(self.optimizer, OPTIMIZERS)}")
        if self.schedule not in ("cosine", "poly"):
            raise ValueError(f"optim.schedule must be cosine or poly, not {self.schedule!r}")
        if self.warmup_steps is not None and self.warmup_steps < 0:
            raise ValueError(f"optim.warmup_steps must be at least 0, not {self.warmup_steps}")
        if self.lr <= 0 or self.warmup_lr < 0 or self.min_lr < 0:
            raise ValueError("optim.lr must be positive, optim.warmup_lr and optim.min_lr at least 0")
        if self.min_lr > self.lr:
            raise ValueError(f"optim.min_lr, {self.min_lr:g}, must not be above optim.lr, {self.lr:g}")
        if self.lr_batch is not None and self.lr_batch < 1:
            raise ValueError(f"optim.lr_batch must be at least 1, not {self.lr_batch}")
        if self.weight_decay < 0 or self.warmup_epochs < 0 or self.cooldown_epochs < 0:
            raise ValueError("optim.weight_decay, warmup_epochs and cooldown_epochs must be at least 0")
        if self.interval not in ("step", "epoch"):
            raise ValueError(f"optim.interval must be step or epoch, not {self.interval!r}")
        if not 0.0 < self.layer_decay <= 1.0:
            raise ValueError(f"optim.layer_decay must lie in (0, 1], not {self.layer_decay}")
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"optim.ema_decay must lie in [0, 1), not {self.ema_decay}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run.

    Attributes:
        task: ``classification``, what is on an image; or ``segmentation``, what every pixel belongs to.
        output: folder for everything the run makes; None makes ``runs/<data>-<model>``.
        epochs: passes over the training images, warm-up and cool-down included.
        batch_size: images of one step on one device.
        accumulate: batches whose gradients are added up for one step.
        seed: decides every random draw.
        checkpoint_minutes: time between two checkpoints within an epoch; one is saved after every epoch besides. 0
            looks at no clock.
        checkpoint_steps: optimizer steps between two checkpoints within an epoch; 0 does not count them.
        accelerator: ``auto``, ``cpu``, ``gpu``, ``mps`` … as Lightning names them.
        devices: how many on each node, or ``auto``: every GPU, one CPU process, or what torchrun or SLURM started.
        nodes: machines that train together; under torchrun and SLURM left out.
        strategy: Lightning's, ``auto``, ``ddp`` …; ``fsdp2`` shares weights, gradients and optimizer state out.
        precision: ``32-true``, ``bf16-mixed`` or ``16-mixed``.
        sync_batchnorm: the stem's BatchNorm over the batches of all processes (GPUs).
        loggers: beside ``metrics.csv``: ``tensorboard``, ``wandb``, ``mlflow``.
        compile: apply ``torch.compile`` to the blocks of both stages. The first step takes a minute or more; it needs
            a C++ compiler on a CPU.
    """

    task: Literal["classification", "segmentation"] = "classification"
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    segmentation: SegmentationSettings = field(default_factory=SegmentationSettings)
    optim: OptimConfig = field(default_factory=OptimConfig)
    output: str | None = None
    epochs: int = 100
    batch_size: int = 64
    accumulate: int = 1
    seed: int = 0
    checkpoint_minutes: float = 10.0
    checkpoint_steps: int = 0
    accelerator: str = "auto"
    devices: int | str = "auto"
    nodes: int = 1
    strategy: str = "auto"
    precision: str = "32-true"
    sync_batchnorm: bool = False
    loggers: tuple[str, ...] = ()
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "nodes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("seed", "checkpoint_minutes", "checkpoint_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        if self.task not in MONITORED_METRICS:
            raise ValueError(f"unknown task {self.task!r}{nearest(self.task, MONITORED_METRICS)}")
        self._check_task()
        if self.precision not in PRECISIONS:
            raise ValueError(f"unknown precision {self.precision!r}{nearest(self.precision, PRECISIONS)}")
        for name in self.loggers:
            if name not in LOGGERS:
                raise ValueError(f"unknown logger {name!r} in loggers{nearest(name, LOGGERS)}")
        if self.model.freeze and self.optim.layer_decay != 1.0:
            raise ValueError("model.freeze trains the heads alone; leave out optim.layer_decay")
        for name in ("ground_truth", "legacy_crop"):
            if getattr(self.loss, name) and not self.data.token_labels:
                raise ValueError(f"loss.{name} says how token labels are used: it needs data.token_labels")
        if self.data.token_labels and self.loss.class_balance != "none":
            raise ValueError("loss.class_balance weighs labels of images, not of tokens: leave out data.token_labels")
        if self.strategy == "fsdp2" and self.optim.optimizer == "muon":
            raise ValueError(
                "strategy fsdp2 leaves no process a whole matrix, which optim.optimizer muon needs; take ddp"
            )
        if self.strategy == "fsdp2" and (self.optim.ema_decay or self.sync_batchnorm):
            raise ValueError(
                "strategy fsdp2 keeps no average and no synchronized BatchNorm; take ddp, or leave them out"
            )
        warmup_epochs = self.optim.warmup_epochs if self.optim.warmup_steps is None else 0.0
        if warmup_epochs + self.optim.cooldown_epochs >= self.epochs:
            raise ValueError(
                f"warm-up ({warmup_epochs:g}) and cool-down ({self.optim.cooldown_epochs}) leave nothing "
                f"of {self.epochs} epochs; lower optim.warmup_epochs or raise epochs"
            )

    def _check_task(self) -> None:
        """Refuse what the task would not look at."""
        if self.task == "classification":
            if self.segmentation != SegmentationSettings():
                raise ValueError("segmentation.* are settings of --task segmentation; leave them out, or name it")
            return
        data, usual = self.data, DataConfig()
        others = {
            "augment": self.augment != AugmentConfig(),
            "loss": self.loss != LossConfig(),
            "model.img_size": self.model.img_size is not None,
            **{f"data.{name}": getattr(data, name) != getattr(usual, name) for name in _CLASSIFICATION_DATA},
        }
        if given := [name for name, is_given in others.items() if is_given]:
            raise ValueError(
                f"{', '.join(given)}: settings of classification; segmentation has segmentation.crop, "
                "segmentation.augment and segmentation.aux_weight"
            )
        if self.batch_size == 1 and not self.sync_batchnorm:
            raise ValueError(
                "decoders normalize over the batch, and pool whole images: batch_size must be at least 2, or "
                "sync_batchnorm true on several GPUs"
            )

    def to_json(self) -> str:
        """The whole tree as JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"

    def to_yaml(self) -> str:
        """The whole tree as YAML: a recipe."""
        return yaml.safe_dump(json.loads(self.to_json()), sort_keys=False)

    def differences(self, settings: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Where nested ``settings`` are others than these: dotted name → (the value here, the value there)."""
        return dict(_differences(asdict(self), settings, ""))

    @classmethod
    def load(cls, path: Path) -> "TrainConfig":
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: no JSON, or a key that is not known (the message gives the nearest).
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls.from_dict(values)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is no training configuration: {error}") from error

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainConfig":
        """Build from nested JSON values; what is left out has its default.

        Raises:
            ValueError: a key that is not known (the message gives the nearest), or a value that is not allowed.
        """
        return _build(cls, values, "")


def _differences(mine: Any, theirs: Any, prefix: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for key, value in theirs.items():
        if isinstance(value, Mapping):
            yield from _differences(mine[key], value, f"{prefix}{key}.")
        elif mine[key] != value:
            yield prefix + key, (mine[key], value)


def _build(kind: type, values: dict[str, Any], prefix: str) -> Any:
    """A dataclass of ``kind`` from JSON values, sections built in turn."""
    if not isinstance(values, Mapping):
        raise ValueError(f"{prefix.removesuffix('.') or 'a configuration'} must be settings by name, not {values!r}")
    types = get_type_hints(kind)
    arguments = {}
    for key, value in values.items():
        if key not in types:
            raise ValueError(f"unknown setting {prefix + key!r}{nearest(key, [f.name for f in fields(kind)])}")
        if is_dataclass(types[key]):
            value = _build(types[key], value, f"{prefix}{key}.")
        arguments[key] = tuple(value) if isinstance(value, list) else value
    return kind(**arguments)
