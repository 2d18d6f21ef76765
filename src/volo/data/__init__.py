"""Data sets, decoding of images, augmentation, preprocessing and loading of batches."""

from volo.color import Color, default_colors, hex_color, parse_color
from volo.data.classification.augment import Augmentation, AugmentConfig, TrainTransform
from volo.data.classification.class_balance import BALANCES, class_counts, class_weights, imbalance_warning
from volo.data.classification.dataset import Batch, EvalImages, TrainImages
from volo.data.classification.label_map import LabelMap, LabelMaps, TokenLabels
from volo.data.color_modes import BACKGROUND, MODES, load_upright, mode_of
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
from volo.data.loader import STEP, EpochSampler, Samples, default_workers, eval_loader, train_loader
from volo.data.preprocessing import Preprocessing
from volo.data.read_notes import ReadNote, notes_of
from volo.data.registry import (
    DATASETS,
    DataSource,
    holds_masks,
    open_data,
    open_splits,
    open_training_data,
    open_validation_data,
    with_channels,
)
from volo.data.segmentation.augment import SegmentationAugmentation, SegmentationAugmentConfig, SegmentationTransform
from volo.data.segmentation.classes import IGNORE, MaskClasses, read_classes
from volo.data.segmentation.dataset import SegmentationBatch, SegmentationEvalSet, SegmentationTrainSet
from volo.data.segmentation.formats.masks import MaskError, read_mask
from volo.data.segmentation.overlay import overlay
from volo.data.segmentation.pairs import MaskedImages, inspect_masks
from volo.data.token_labels.match import open_token_labels
from volo.imagenet import IMAGENET_MEAN, IMAGENET_STD

__all__ = [
    "BACKGROUND",
    "BALANCES",
    "DATASETS",
    "IGNORE",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "MAX_PIXELS",
    "MODES",
    "STEP",
    "ArrayImages",
    "AugmentConfig",
    "Augmentation",
    "Batch",
    "Color",
    "DataSource",
    "EpochSampler",
    "EvalImages",
    "FileImages",
    "ImageError",
    "ImageSet",
    "LabelMap",
    "LabelMaps",
    "MaskClasses",
    "MaskError",
    "MaskedImages",
    "Preprocessing",
    "ReadNote",
    "Samples",
    "SegmentationAugmentConfig",
    "SegmentationAugmentation",
    "SegmentationBatch",
    "SegmentationEvalSet",
    "SegmentationTrainSet",
    "SegmentationTransform",
    "TokenLabels",
    "TrainImages",
    "TrainTransform",
    "class_counts",
    "class_weights",
    "default_colors",
    "default_workers",
    "eval_loader",
    "find_images",
    "hex_color",
    "holds_masks",
    "image_extensions",
    "imbalance_warning",
    "inspect_masks",
    "listed_images",
    "load_upright",
    "mode_of",
    "notes_of",
    "open_data",
    "open_splits",
    "open_token_labels",
    "open_training_data",
    "open_validation_data",
    "overlay",
    "parse_color",
    "read_classes",
    "read_image",
    "read_mask",
    "train_loader",
    "with_channels",
]
