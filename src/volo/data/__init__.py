"""Images in, batches out: data sets, decoding, augmentation, preprocessing, loading."""

from volo.data.find import find_images
from volo.data.images import ArrayImages, FileImages, ImageError, ImageSet, as_channels, read_image
from volo.data.loader import Batch, EpochSampler, EvalImages, TrainImages, eval_loader, train_loader
from volo.data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from volo.data.registry import DATASETS, open_data, open_validation_data, with_channels
from volo.data.transforms import AugmentConfig, TrainTransform

__all__ = [
    "DATASETS",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "ArrayImages",
    "AugmentConfig",
    "Batch",
    "EpochSampler",
    "EvalImages",
    "FileImages",
    "ImageError",
    "ImageSet",
    "Preprocessing",
    "TrainImages",
    "TrainTransform",
    "as_channels",
    "eval_loader",
    "find_images",
    "open_data",
    "open_validation_data",
    "read_image",
    "train_loader",
    "with_channels",
]
