"""The images of a run: to resume it with the same, and to evaluate it on others than those it was trained on."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from volo.data import DATASETS, ImageSet, MaskedImages, open_data, with_channels
from volo.data.identity import SAMPLED, content_keys, data_root, file_paths, name_keys, names_below, pixel_keys, sampled
from volo.files import atomic_write
from volo.limits import parse_json
from volo.messages import join_few, normalized, quoted
from volo.models.weights.model_folder import MODEL_CONFIG_FILE, read_description
from volo.training.config import RUN_CONFIG_FILE, TrainConfig

#: The file of a run folder that tells which images the model was trained on.
IMAGES_FILE = "images.safetensors"

_KEYS = ("train", "val", "contents", "labels")


@dataclass(frozen=True, kw_only=True, eq=False)
class RunImages:
    """The identity of the images of a run, without the images.

    N training images, M validation images.

    Attributes:
        class_names: names of the classes, in the order of their indices.
        train: (N,) int64, keys of the training images; see :mod:`volo.data.identity`.
        val: (M,) int64, keys of the validation images.
        contents: int64, keys of the content of some training images, then of some validation images; none for images
            in memory, whose keys are those of their pixels.
        labels: (1,) int64, key of all labels, or of the content of some masks.
    """

    class_names: tuple[str, ...]
    train: np.ndarray
    val: np.ndarray
    contents: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, train: ImageSet | MaskedImages, val: ImageSet | MaskedImages, root: Path) -> "RunImages":
        """Return the identity of the images of a run.

        Args:
            train: training images.
            val: validation images.
            root: the folder of the data, from :func:`volo.data.identity.data_root`.
        """
        return cls(
            class_names=tuple(train.class_names),
            train=_keys(train, root),
            val=_keys(val, root),
            contents=np.concatenate([_contents(train), _contents(val)]),
            labels=name_keys([" ".join(map(str, [*_labels(train), *_labels(val)]))]),
        )

    @classmethod
    def from_state(cls, state: Any) -> "RunImages":
        """Return what :meth:`state` described.

        Raises:
            ValueError: ``state`` is something else.
        """
        try:
            keys = {name: np.asarray(state[name]) for name in _KEYS}
            names = tuple(map(str, state["class_names"]))
        except (KeyError, TypeError, IndexError) as error:
            raise ValueError("its list of the images of the run is damaged") from error
        if any(values.dtype != np.int64 or values.ndim != 1 for values in keys.values()):
            raise ValueError("its list of the images of the run is damaged")
        return cls(class_names=names, **keys)

    def state(self) -> dict[str, Any]:
        """Return tensors and texts, for a checkpoint."""
        return {"class_names": list(self.class_names), **self._tensors()}

    def save(self, folder: Path) -> None:
        """Write ``IMAGES_FILE`` into a run folder.

        Raises:
            OSError: The file cannot be written.
        """
        with atomic_write(folder / IMAGES_FILE) as temporary:
            save_file(self._tensors(), temporary, metadata={"class_names": json.dumps(self.class_names)})

    @classmethod
    def load(cls, folder: Path) -> "RunImages":
        """Read ``IMAGES_FILE`` of a run folder.

        Raises:
            ValueError: The file is damaged.
            OSError: The file cannot be read.
        """
        path = folder / IMAGES_FILE
        try:
            with safe_open(path, "np") as file:
                names = parse_json((file.metadata() or {})["class_names"])
                return cls.from_state({"class_names": names, **{name: file.get_tensor(name) for name in file.keys()}})  # noqa: SIM118  # not a dictionary
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged: {error}") from error

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(getattr(self, name)) for name in _KEYS}

    def difference(self, now: "RunImages") -> str | None:
        """Return what differs between these images and those of today, or None if they are the same."""
        if now.class_names != self.class_names:
            return _class_difference(self.class_names, now.class_names)
        if not (np.array_equal(now.train, self.train) and np.array_equal(now.val, self.val)):
            before, after = (np.union1d(images.train, images.val) for images in (self, now))
            new, gone = len(np.setdiff1d(after, before)), len(np.setdiff1d(before, after))
            if new or gone:
                return f"{new:,} of its images are new and {gone:,} are gone"
            return "other images are held out for validation, or their order has changed"
        changed = np.count_nonzero((now.contents != self.contents) & (now.contents != 0) & (self.contents != 0))
        if changed:
            return f"the content of {changed:,} images has changed"
        return None if np.array_equal(now.labels, self.labels) else "its labels or masks have changed"

    def trained_on(self, images: ImageSet | MaskedImages, root: Path, run_root: Path) -> np.ndarray:
        """Return which of other images are training images of the run: (number of images,) bool.

        Files below the data of the run are recognized by their place. Files elsewhere are recognized by their names
        relative to ``root``, if the content of some of them is that of the training images, as after moving the data.
        Copies under other names are recognized by their content, unless the run has more than ``SAMPLED`` images.

        Args:
            images: the images to recognize.
            root: the folder of these images, from :func:`volo.data.identity.data_root`.
            run_root: likewise, the folder of the data of the run.
        """
        paths = file_paths(images)
        if paths is None:
            return np.isin(_keys(images, root), self.train)
        inside = name_keys(names_below(paths, root, run_root))
        keys = np.where(inside != 0, inside, _keys(images, root))
        known = np.isin(keys, self.train)
        places = sampled(len(self.train))
        contents = dict(zip(self.train[places].tolist(), self.contents[: len(places)].tolist(), strict=False))
        compared = np.array([index for index in np.flatnonzero(known) if contents.get(int(keys[index]))], dtype=int)
        before = np.array([contents[key] for key in keys[compared].tolist()], dtype=np.int64)
        known[compared] = content_keys(paths[index] for index in compared) == before
        if not known[compared].any():
            known &= inside != 0
        if len(self.train) <= SAMPLED:  # the content of all of them is known
            others = np.flatnonzero(~np.isin(keys, np.concatenate([self.train, self.val]))).tolist()
            copies = content_keys(paths[index] for index in others)
            known[others] = np.isin(copies, list(contents.values())) & (copies != 0)
        return known


def run_folder(model: str | Path) -> Path | None:
    """Return the run folder to which a model belongs: the folder itself, or that of a file in it. None if it has none.

    Args:
        model: as the user names it; it need not be a path.
    """
    place = Path(model)
    for folder in (place, place.parent, place.parent.parent):
        try:
            if (folder / RUN_CONFIG_FILE).is_file() and (folder == place or place.exists()):
                return folder
        except OSError:  # a name that no file can have
            return None
    return None


def find_trained_on(model: str | Path, images: ImageSet | MaskedImages, root: Path) -> np.ndarray | None:
    """Return which images a model was trained on: (number of images,) bool; None for a model without its run folder.

    Args:
        model: the run folder, or a file in it.
        images: the images in question.
        root: their folder, from :func:`volo.data.identity.data_root`.

    Raises:
        ValueError: The run folder does not tell which images these are.
    """
    folder = run_folder(model)
    if folder is None:
        return None
    config = TrainConfig.load(folder / RUN_CONFIG_FILE).located(folder)
    if (folder / IMAGES_FILE).is_file():
        recorded = RunImages.load(folder)
    else:  # the run of an earlier version
        train, val = _open(config)
        recorded = RunImages.of(train, val, data_root(config.data.path, config.data))
        _check_held_out(folder, val)
    return recorded.trained_on(images, root, data_root(config.data.path, config.data))


def held_out_images(run: str | Path) -> ImageSet | MaskedImages:
    """Open the validation images of a run, to evaluate its model on them.

    Args:
        run: the run folder.

    Raises:
        ValueError: The folder is not a run folder, or its data are not as they were.
    """
    folder = Path(run)
    if not (folder / RUN_CONFIG_FILE).is_file():
        raise ValueError(f"{folder} is not a run folder: {folder / RUN_CONFIG_FILE} does not exist")
    config = TrainConfig.load(folder / RUN_CONFIG_FILE).located(folder)
    train, val = _open(config)
    now = RunImages.of(train, val, data_root(config.data.path, config.data))
    if (folder / IMAGES_FILE).is_file():
        if difference := RunImages.load(folder).difference(now):
            raise ValueError(f"{config.data.path} has changed since the beginning of {folder}: {difference}")
    else:
        _check_held_out(folder, val)
    return with_channels(val, config.data.channels or train.channels, config.data.background)


def check_recorded(recorded: Any, now: RunImages, folder: Path, batches: int, checkpoint: Mapping[str, Any]) -> None:
    """Check that the images are those that a checkpoint of their run tells.

    Args:
        recorded: the state of :class:`RunImages` in the checkpoint; None for a checkpoint of an earlier version. Then
            only what else is known of its images is compared: classes and numbers.
        now: the images.
        folder: the run folder.
        batches: number of batches in an epoch with the images of now.
        checkpoint: the checkpoint.

    Raises:
        ValueError: The images are others.
    """
    if recorded is not None:
        if difference := RunImages.from_state(recorded).difference(now):
            raise ValueError(difference)
        return
    description = folder / MODEL_CONFIG_FILE
    before = read_description(description).class_names if description.is_file() else None
    if before is not None and tuple(map(normalized, before)) != now.class_names:
        raise ValueError(_class_difference(before, now.class_names))
    try:
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        done, ended = int(progress["current"]["processed"]), bool(progress["is_last_batch"])
    except (KeyError, TypeError, ValueError):
        return
    if done > batches or (ended and done != batches):
        raise ValueError(f"an epoch had {done} batches, and has {batches} now")


def _class_difference(before: Sequence[str], now: Sequence[str]) -> str:
    new, gone = [name for name in now if name not in before], [name for name in before if name not in now]
    if not new and not gone:
        return f"its classes are in another order: {join_few(now)}"
    changes = {"new": new, "gone": gone}
    return " and ".join(f"{word} are the classes {join_few(names)}" for word, names in changes.items() if names)


def check_found(config: TrainConfig, folder: Path) -> None:
    """Check that the data of a run are still there.

    Raises:
        ValueError: They are not.
    """
    path = config.data.path
    if path not in DATASETS and not Path(path).exists():
        raise ValueError(
            f"the data of the run, {path}, are not found; if they were moved, name their folder: "
            f"volo train FOLDER --resume {quoted(folder)}"
        )


def _open(config: TrainConfig) -> tuple[Any, Any]:
    data = config.data
    return open_data(data.path, task=config.task, val_fraction=data.val_fraction, seed=config.seed, source=data)


def _check_held_out(folder: Path, val: ImageSet | MaskedImages) -> None:
    """Check the validation images of a run of an earlier version, which kept no other list than that of its scores.

    Args:
        folder: the run folder.
        val: the validation images that follow from the configuration and from the data of today.

    Raises:
        ValueError: The list has others.
    """
    from volo.evaluation.report import IMAGE_SCORES_FILE, PREDICTIONS_FILE  # loads matplotlib

    path = next((folder / name for name in (PREDICTIONS_FILE, IMAGE_SCORES_FILE) if (folder / name).is_file()), None)
    if path is None or file_paths(val) is None:
        return
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            scored = [Path(row["path"]).parts for row in csv.DictReader(file)]
    except (csv.Error, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    # Only the ends are compared: the paths may begin in another folder.
    names = [Path(val.name(index)).parts for index in range(len(file_paths(val) or ()))]
    same = next((count for count in range(1, 9) if len({name[-count:] for name in names}) == len(names)), 9)
    if not {place[-same:] for place in scored} <= {name[-same:] for name in names}:
        raise ValueError("its data are not as they were: other images would be held out now")


def _keys(images: ImageSet | MaskedImages, root: Path) -> np.ndarray:
    paths = file_paths(images)
    return pixel_keys(images) if paths is None else name_keys(names_below(paths, root))


def _contents(images: ImageSet | MaskedImages) -> np.ndarray:
    paths = file_paths(images)
    return np.empty(0, np.int64) if paths is None else content_keys(paths[i] for i in sampled(len(paths)))


def _labels(images: ImageSet | MaskedImages) -> list[int]:
    if isinstance(images, MaskedImages):
        return content_keys(images.mask_paths[i] for i in sampled(len(images))).tolist()
    return list(images.labels)
