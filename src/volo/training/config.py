"""The configuration of a training run: one frozen tree of dataclasses, saved in the run folder."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_type_hints

import yaml

from volo.data import BACKGROUND, MODES, AugmentConfig, DataSource, SegmentationAugmentConfig
from volo.limits import check_type, parse_json, short_repr
from volo.messages import nearest
from volo.models.segmentation import check_decoder
from volo.precision import canonical_precision
from volo.tasks.losses import LossConfig

#: Files of a run folder: the configuration, and a table with the metrics of every epoch.
RUN_CONFIG_FILE, METRICS_FILE = "train.json", "metrics.csv"
#: Precision → its name in Lightning; ``volo.training.checks`` knows which a device supports.
LIGHTNING_PRECISIONS: Mapping[str, str] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
OPTIMIZERS = ("adamw", "muon")
#: Task → the validation metric that chooses the best epoch, and the printed name of the metric.
MONITORED_METRICS: Mapping[str, tuple[str, str]] = {
    "classification": ("val_top1", "top-1"),
    "segmentation": ("val_miou", "mean IoU"),
}

#: Defaults of a long training on many images; a short one, or one on few images, takes less.
USUAL_BATCH, USUAL_WARMUP = 64, 5.0
#: For few images, the usual batch is halved until an epoch has so many steps, down to so many images.
_LEAST_STEPS, _LEAST_BATCH = 8, 8
#: Settings whose value depends on the data or on the number of epochs where none is given.
_ADAPTED = ("batch_size", "optim.warmup_epochs")
#: Settings of ``data`` that segmentation does not use.
_CLASSIFICATION_DATA = ("balanced", "crop_pct", "token_labels")
#: Loggers that can be used besides ``metrics.csv``.
LOGGERS = ("tensorboard", "wandb", "mlflow")


def monitored_metric(figures: Mapping[str, Any]) -> tuple[str, str]:
    """Return the metric in a row of ``metrics.csv`` that chooses the best epoch, and its printed name.

    Raises:
        ValueError: The row has no such metric.
    """
    for score, name in MONITORED_METRICS.values():
        if score in figures:
            return score, name
    raise ValueError(
        f"no epoch was evaluated: none of {', '.join(score for score, _ in MONITORED_METRICS.values())} is present"
    )


@dataclass(frozen=True, kw_only=True)
class DataConfig(DataSource):
    """The images.

    Attributes:
        path: a folder with a folder for each class (or train and val folders of that form), a table (CSV or TSV) of
            paths and labels, or the name of a data set: ``fashion-mini``, the embedded one, or one of torchvision's.
        val_fraction: share of every class held out for validation if the data have no validation split, 0–1.
        channels: 1 reads images as gray, 3 as color, 4 as color and transparency; None takes those of the data.
        background: the color behind transparent pixels, by name or as #rrggbb; not used with four channels.
        balanced: draw all classes equally often in every epoch, whatever their sizes.
        crop_pct: share of the shorter side that the center crop of validation keeps; above 1 the image is smaller than
            the crop. None takes 0.96 for images of at least 128 pixels, 1 for smaller ones.
        workers: processes that load images; None takes one less than the number of cores, at most 8, and no more than
            an epoch has batches.
        strict: stop at the first image that cannot be read, instead of printing a warning.
        token_labels: a store of these images, written by ``volo label``, or a folder of the authors' label maps; the
            target of every token is then its own label. None takes the image's label as the target of every token.
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
    """The network; None keeps the value of the named variant.

    Attributes:
        name: the name of a model, one of those that ``volo models`` lists.
        pretrained: initial weights, as ``create_model`` takes them: a name with its tag
            (``volo_d1_224.sail_in1k``), a file or model folder, or ``hf-hub:owner/repository``. None starts from
            scratch.
        freeze: train the heads only (linear probing); all other weights are frozen and in evaluation mode, with fixed
            BatchNorm statistics and without dropout or drop path.
        img_size: side of the square training images, in pixels.
        drop_path_rate: stochastic depth rate of the last block.
        drop_path_outlookers: stochastic depth in the Outlookers too, which the authors' training did not use.
        pos_drop_rate: dropout rate after the position embedding.
        attn_drop_rate: dropout rate of the attention weights.
        patch_size: side of the square of image pixels of a stage-1 token, an even number.
        stem_width: channels of the convolutional stem.
        dims: channels of the two stages.
        depths: number of blocks of the Outlooker stage, then of the three groups of transformer blocks.
        heads: attention heads of the two stages.
        mlp_ratio: hidden width of every MLP, divided by the width of its block.
        init_std: standard deviation of the initial weights of linear layers.
        grad_checkpointing: store only the feature maps between blocks, and compute all others again in the backward
            pass: much less memory, more time, the same gradients. It is not part of the architecture.
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
        """Return the arguments of ``create_model`` that replace values of the named variant."""
        others = ("name", "freeze", "grad_checkpointing")
        return {key: value for key, value in asdict(self).items() if key not in others and value is not None}


@dataclass(frozen=True, kw_only=True)
class SegmentationSettings:
    """Settings of segmentation only.

    Attributes:
        decoder: decoder of segmentation-models-pytorch: upernet, fpn, segformer, unet, unetplusplus, manet or linknet.
        decoder_channels: channels of the decoder and of the auxiliary head; None takes the decoder's default (256 in
            UPerNet), and 256 for the head.
        aux_weight: weight of the auxiliary head's loss, at least 0; the weight of the decoder's loss is 1.
        crop: height and width of the training crops in pixels.
        augment: augmentation of images and masks; the ``augment`` outside this section is that of classification.
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
    """The optimizer, and a learning-rate schedule with warm-up and decay.

    Attributes:
        optimizer: ``adamw``, as in the paper; or ``muon``, which reaches a higher accuracy in few epochs. Muon
            orthogonalizes the momentum of every weight matrix and convolution; AdamW updates the heads, embeddings,
            biases and norms. Muon's steps (timm's) are scaled to the size of AdamW's, so both take similar rates.
        schedule: decay of the rate: ``cosine``, or ``poly``, which is linear (a polynomial of power 1).
        lr: the peak learning rate.
        lr_batch: global batch size for which the rates are given; every rate is multiplied by global batch /
            ``lr_batch``. None uses the rates as they are.
        weight_decay: weight decay of weights with two or more dimensions; biases, norms, ``pos_embed`` and
            ``cls_token`` have none.
        betas: decay of AdamW's two moving averages; Muon's momentum is 0.95.
        warmup_epochs: epochs of linear warm-up from ``warmup_lr``; None takes 5, or a tenth of the epochs if that is
            less.
        warmup_steps: optimizer steps of warm-up, instead of ``warmup_epochs``.
        warmup_lr: learning rate at the start of the warm-up.
        min_lr: learning rate at the end of the decay.
        cooldown_epochs: last epochs at ``min_lr``, included in ``epochs``.
        interval: the rate changes with every ``step``, or with every ``epoch`` as in the paper's runs.
        layer_decay: factor, in (0, 1], between the rates of a layer and of the layer above it; the heads have the
            full rate. 1 gives all layers the same rate. For fine-tuning.
        ema_decay: decay of the exponential moving average of the weights; 0 keeps no average.
    """

    optimizer: Literal["adamw", "muon"] = "adamw"
    schedule: Literal["cosine", "poly"] = "cosine"
    lr: float = 1e-3
    lr_batch: int | None = None
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_epochs: float | None = None
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
        if self.weight_decay < 0 or (self.warmup_epochs or 0.0) < 0 or self.cooldown_epochs < 0:
            raise ValueError("optim.weight_decay, warmup_epochs and cooldown_epochs must be at least 0")
        if self.interval not in ("step", "epoch"):
            raise ValueError(f"optim.interval must be step or epoch, not {self.interval!r}")
        if not 0.0 < self.layer_decay <= 1.0:
            raise ValueError(f"optim.layer_decay must lie in (0, 1], not {self.layer_decay}")
        if not 0.0 <= self.ema_decay < 1.0:
            raise ValueError(f"optim.ema_decay must lie in [0, 1), not {self.ema_decay}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The whole configuration of a training run.

    Attributes:
        task: ``classification`` (a class for each image) or ``segmentation`` (a class for each pixel).
        output: the run folder; None takes ``runs/<data>-<model>``.
        epochs: passes over the training images, warm-up and cool-down included.
        batch_size: images in a batch on each device; None takes 64, or less for few training images: the largest
            power of two that gives an epoch 8 steps, but at least 8, or all images if there are fewer.
        accumulate: batches whose gradients are summed for one optimizer step.
        seed: seed of every random draw.
        checkpoint_minutes: minutes between two checkpoints within an epoch, besides the one after every epoch; 0 turns
            these off.
        checkpoint_steps: optimizer steps between two checkpoints within an epoch; 0 turns these off.
        accelerator: ``auto``, ``cpu``, ``gpu``, ``mps`` … as Lightning names them.
        devices: number of devices on each node, or ``auto``: every GPU, one CPU process, or the processes that
            torchrun or SLURM started.
        nodes: number of machines that train together; not needed under torchrun and SLURM.
        strategy: a strategy of Lightning, ``auto``, ``ddp`` …; or ``fsdp2``, which shards weights, gradients and
            optimizer state.
        precision: ``fp32``, ``bf16`` or ``fp16``; the last two are mixed precision, with weights in float32.
        sync_batchnorm: compute BatchNorm's statistics over the batches of all processes; needs GPUs.
        loggers: loggers besides ``metrics.csv``: ``tensorboard``, ``wandb``, ``mlflow``.
        compile: apply ``torch.compile`` to the blocks of both stages. The first step takes a minute or more; on a CPU
            it needs a C++ compiler.
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
    batch_size: int | None = None
    accumulate: int = 1
    seed: int = 0
    checkpoint_minutes: float = 10.0
    checkpoint_steps: int = 0
    accelerator: str = "auto"
    devices: int | str = "auto"
    nodes: int = 1
    strategy: str = "auto"
    precision: str = "fp32"
    sync_batchnorm: bool = False
    loggers: tuple[str, ...] = ()
    compile: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "nodes"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        for name in ("seed", "checkpoint_minutes", "checkpoint_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        if self.task not in MONITORED_METRICS:
            raise ValueError(f"unknown task {self.task!r}{nearest(self.task, MONITORED_METRICS)}")
        self._check_task()
        object.__setattr__(self, "precision", canonical_precision(self.precision))
        for name in self.loggers:
            if name not in LOGGERS:
                raise ValueError(f"unknown logger {name!r} in loggers{nearest(name, LOGGERS)}")
        if self.model.freeze and self.optim.layer_decay != 1.0:
            raise ValueError("model.freeze trains the heads alone; leave out optim.layer_decay")
        for name in ("ground_truth", "legacy_crop"):
            if getattr(self.loss, name) and not self.data.token_labels:
                raise ValueError(f"loss.{name} needs data.token_labels: it decides how these are used")
        if self.data.token_labels and self.loss.class_balance != "none":
            raise ValueError("loss.class_balance weighs labels of images, not of tokens: leave out data.token_labels")
        if self.strategy == "fsdp2" and self.optim.optimizer == "muon":
            raise ValueError("strategy fsdp2 shards every matrix, and optim.optimizer muon needs whole ones; take ddp")
        if self.strategy == "fsdp2" and (self.optim.ema_decay or self.sync_batchnorm):
            raise ValueError(
                "strategy fsdp2 does not support optim.ema_decay and sync_batchnorm; take ddp, or leave them out"
            )
        warmup_epochs = (self.optim.warmup_epochs or 0.0) if self.optim.warmup_steps is None else 0.0
        if warmup_epochs + self.optim.cooldown_epochs >= self.epochs:
            raise ValueError(
                f"warm-up ({warmup_epochs:g}) and cool-down ({self.optim.cooldown_epochs}) leave nothing "
                f"of {self.epochs} epochs; lower optim.warmup_epochs and optim.cooldown_epochs, or raise epochs"
            )

    def _check_task(self) -> None:
        """Raise ValueError if settings are given that the task does not use, or that it does not allow."""
        if self.task == "classification":
            if self.segmentation != SegmentationSettings():
                raise ValueError("segmentation.* are settings of --task segmentation; leave them out, or add it")
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

    def adapt_defaults(self, *, images: int, processes: int) -> "TrainConfig":
        """Return the configuration with values in the place of defaults that depend on the data or on the epochs.

        Settings that are given stay as they are. All processes of a run get the same values.

        Args:
            images: number of training images.
            processes: number of processes that train together.
        """
        optim, batch_size = self.optim, self.batch_size
        if optim.warmup_epochs is None and optim.warmup_steps is None:
            warmup = min(USUAL_WARMUP, (self.epochs - optim.cooldown_epochs) / 10)
            # A rate that changes with every epoch would stay at its lowest for the whole of a begun epoch.
            optim = replace(optim, warmup_epochs=float(int(warmup)) if optim.interval == "epoch" else warmup)
        if batch_size is None:
            most = images // (processes * self.accumulate)  # a batch of so many makes one step an epoch
            batch_size = USUAL_BATCH
            while batch_size > _LEAST_BATCH and most < _LEAST_STEPS * batch_size:
                batch_size //= 2
            batch_size = max(min(batch_size, most), 1 if self.task == "classification" else 2)
        return replace(self, optim=optim, batch_size=batch_size)

    def absolute(self) -> "TrainConfig":
        """Return the configuration with absolute paths of data, labels, classes, weights and run folder.

        Names that are no paths stay as they are.
        """
        output = None if self.output is None else str(Path(self.output).resolve())
        return replace(self._with_paths(_resolved), output=output)

    def located(self, folder: Path) -> "TrainConfig":
        """Return the configuration of a run, with the paths of data, labels, classes and weights found again.

        What was moved together with the run is found at the same place relative to the run folder. Earlier versions
        wrote relative paths; they are found in the same way, or in the current folder.

        Args:
            folder: the run folder, which may have been moved since ``output`` was written.
        """

        def find(path: str) -> str:
            places = [Path(path)]
            if self.output is not None and Path(path).is_absolute() == Path(self.output).is_absolute():
                together = folder / os.path.relpath(path, self.output)
                places.insert(len(places) if Path(path).is_absolute() else 0, together)
            return next((_resolved(str(place)) for place in places if _exists(place)), path)

        return replace(self._with_paths(find), output=str(folder))

    def _with_paths(self, change: Callable[[str], str]) -> "TrainConfig":
        """Return the configuration with ``change`` applied to all settings that may be paths of existing files."""

        def changed(section: Any, *names: str) -> Any:
            values = {name: getattr(section, name) for name in names}
            return replace(section, **{name: change(value) for name, value in values.items() if _is_text(value)})

        data = changed(self.data, "path", "token_labels", "classes")
        return replace(self, data=data, model=changed(self.model, "pretrained"))

    def to_json(self) -> str:
        """Return the configuration as JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"

    def to_yaml(self) -> str:
        """Return the configuration as YAML, in the form of a recipe."""
        return yaml.safe_dump(json.loads(self.to_json()), sort_keys=False)

    def differences(self, settings: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Return the nested ``settings`` that differ from these: dotted name → (the value here, the other value).

        A setting that is None and that :meth:`adapt_defaults` sets agrees with every value.
        """
        found = dict(_differences(asdict(self), current_settings(settings), ""))
        return {name: pair for name, pair in found.items() if name not in _ADAPTED or pair[1] is not None}

    @classmethod
    def load(cls, path: Path) -> "TrainConfig":
        """Read a file that :meth:`to_json` wrote, also that of an earlier version.

        Raises:
            ValueError: The file is not JSON, a key is unknown (the message gives the nearest), or a value is not
                allowed.
            OSError: The file cannot be read.
        """
        try:
            return cls.from_dict(parse_json(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ValueError(f"{path} is not a training configuration: {error}") from error

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainConfig":
        """Build a configuration from nested JSON values; settings that are left out have their defaults.

        Raises:
            ValueError: A key is unknown (the message gives the nearest), or a value is not allowed.
        """
        return _build(cls, current_settings(values), "")


def current_settings(values: Any) -> Any:
    """Return nested settings with today's names and values in the place of those of earlier versions.

    ``data.class_file`` is ``data.classes`` now, and the precisions ``32-true``, ``bf16-mixed`` and ``16-mixed`` are
    ``fp32``, ``bf16`` and ``fp16``. Whatever is not of this form is returned as it is: it is checked elsewhere.
    """
    if not isinstance(values, Mapping):
        return values
    current = dict(values)
    if isinstance(current.get("precision"), str):
        with suppress(ValueError):
            current["precision"] = canonical_precision(current["precision"])
    if isinstance(current.get("data"), Mapping):
        data = current["data"] = dict(current["data"])
        if "class_file" in data:
            data.setdefault("classes", data.pop("class_file"))
    return current


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _resolved(path: str) -> str:
    return str(Path(path).resolve()) if _exists(Path(path)) else path


def _exists(place: Path) -> bool:
    try:
        return place.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _differences(mine: Any, theirs: Any, prefix: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for key, value in theirs.items():
        if isinstance(value, Mapping):
            yield from _differences(mine[key], value, f"{prefix}{key}.")
        elif mine[key] != value:
            yield prefix + key, (mine[key], value)


def _build(kind: type, values: dict[str, Any], prefix: str) -> Any:
    """Build a dataclass of ``kind`` from JSON values, and its sections in the same way."""
    if not isinstance(values, Mapping):
        name = prefix.removesuffix(".") or "a configuration"
        raise ValueError(f"{name} must be settings by name, not {short_repr(values)}")
    types = get_type_hints(kind)
    arguments = {}
    for key, value in values.items():
        if key not in types:
            raise ValueError(f"unknown setting {prefix + key!r}{nearest(key, [f.name for f in fields(kind)])}")
        if is_dataclass(types[key]):
            arguments[key] = _build(types[key], value, f"{prefix}{key}.")
            continue
        arguments[key] = tuple(value) if isinstance(value, list) else value
        check_type(prefix + key, arguments[key], types[key])
    return kind(**arguments)
