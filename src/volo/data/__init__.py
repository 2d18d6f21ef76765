"""Images in, batches out: data sets, decoding, augmentation, preprocessing, loading."""

from volo.data.find import find_images, listed_images
from volo.data.images import (
    MAX_PIXELS,
    ArrayImages,
    FileImages,
    ImageError,
    ImageSet,
    image_extensions,
    read_image,
)
from volo.data.imbalance import BALANCES, class_counts, class_weights, imbalance_warning
from volo.data.label_map import LabelMap, LabelMaps
from volo.data.labelled_images import TokenLabels, open_token_labels
from volo.data.loader import (
    STEP,
    Batch,
    EpochSampler,
    EvalImages,
    TrainImages,
    default_workers,
    eval_loader,
    train_loader,
)
from volo.data.modes import BACKGROUND, MODES, mode_of, upright
from volo.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from volo.data.registry import (
    DATASETS,
    DataSource,
    open_data,
    open_parts,
    open_training_data,
    open_validation_data,
    with_channels,
)
from volo.data.transforms import Augmentation, AugmentConfig, TrainTransform

__all__ = [
    "BACKGROUND",
    "BALANCES",
    "DATASETS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "MAX_PIXELS",
    "MODES",
    "STEP",
    "ArrayImages",
    "AugmentConfig",
    "Augmentation",
    "Batch",
    "DataSource",
    "EpochSampler",
    "EvalImages",
    "FileImages",
    "ImageError",
    "ImageSet",
    "LabelMap",
    "LabelMaps",
    "Preprocessing",
    "TokenLabels",
    "TrainImages",
    "TrainTransform",
    "class_counts",
    "class_weights",
    "default_workers",
    "eval_loader",
    "find_images",
    "image_extensions",
    "imbalance_warning",
    "listed_images",
    "mode_of",
    "open_data",
    "open_parts",
    "open_token_labels",
    "open_training_data",
    "open_validation_data",
    "read_image",
    "train_loader",
    "upright",
    "with_channels",
]
