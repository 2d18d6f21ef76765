"""Images in, batches out: data sets, decoding, augmentation, preprocessing, loading."""

from volo.data.find import find_images
from volo.data.images import ArrayImages, FileImages, ImageError, ImageSet, read_image, upright
from volo.data.label_map import LabelMap, LabelMaps
from volo.data.labelled_images import TokenLabels, open_token_labels
from volo.data.loader import STEP, Batch, EpochSampler, EvalImages, TrainImages, eval_loader, train_loader
from volo.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from volo.data.registry import DATASETS, open_data, open_training_data, open_validation_data, with_channels
from volo.data.transforms import Augmentation, AugmentConfig, TrainTransform

__all__ = [
    "DATASETS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "STEP",
    "ArrayImages",
    "AugmentConfig",
    "Augmentation",
    "Batch",
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
    "eval_loader",
    "find_images",
    "open_data",
    "open_token_labels",
    "open_training_data",
    "open_validation_data",
    "read_image",
    "train_loader",
    "upright",
    "with_channels",
]
