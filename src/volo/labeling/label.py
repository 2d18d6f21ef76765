"""Labeling of every region of an image set by a teacher; the token labels are written into a store."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.ops import roi_align
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as TF

from volo.data import ImageError, ImageSet, Preprocessing
from volo.data.loader import ignore_signals
from volo.data.preprocessing import as_array
from volo.data.read_notes import NamedNote, named_notes
from volo.data.token_labels.listing import ImageManifest, list_images
from volo.data.token_labels.match import match
from volo.data.token_labels.store import LABELED, StoreInfo, TokenLabelStore
from volo.data.token_labels.writer import TokenLabelWriter, create_store
from volo.labeling.teachers import Teacher

#: Ways to fit an image into the square input of a teacher, see :class:`LabelOptions`.
FITS = ("squeeze", "keep")


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """Options of labeling; they are recorded in the store.

    Attributes:
        fit: fitting of an image into the teacher's square input: ``squeeze`` resizes the image to the square, ``keep``
            keeps its aspect and fills the rest of the square with gray. In both cases the labels cover the whole image.
        flip: average the logits of the image and of its mirror image.
        top_k: number of classes stored for each cell.
    """

    fit: str = "squeeze"
    flip: bool = False
    top_k: int = 5

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise ValueError(f"fit must be one of {', '.join(FITS)}, not {self.fit!r}")
        if self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, not {self.top_k}")


@dataclass(frozen=True, kw_only=True)
class LabelReport:
    """The result of one process.

    Attributes:
        labeled: number of images that this run labeled.
        before: number of images that were labeled before.
        problems: one error message for each image that cannot be read.
        notes: remarks about images that were read.
    """

    labeled: int
    before: int
    problems: tuple[str, ...]
    notes: tuple[NamedNote, ...] = ()


def label_images(
    teacher: Teacher,
    images: ImageSet,
    out: Path,
    *,
    data: str,
    options: LabelOptions,
    batch_size: int = 32,
    workers: int = 0,
    device: str | torch.device = "cpu",
    precision: torch.dtype = torch.float32,
    on_start: Callable[[int], None] | None = None,
    on_batch: Callable[[int], None] | None = None,
) -> LabelReport:
    """Label all images that are not labeled yet. An existing store is resumed.

    Under ``torchrun`` each process labels its own range of the images.

    Args:
        teacher: a teacher that knows every class of ``images``.
        images: images with as many channels as the teacher's input.
        out: path of the store, which is created if it does not exist.
        data: path or name of the data as the user gave it, see :func:`~volo.data.token_labels.listing.list_images`.
        options: options of labeling.
        batch_size: number of images in a batch.
        workers: number of processes that decode images; 0 decodes in this one.
        device: device on which the teacher computes.
        precision: dtype in which the teacher computes: float32, bfloat16 or float16.
        on_start: called once with the number of images to label.
        on_batch: called after every batch with its number of images.

    Returns:
        The result of this process.

    Raises:
        ValueError: The teacher does not know a class; the existing store was made with another teacher, other options
            or other images; another process labels into it; the disk has not enough space; or the teacher's logits are
            not finite.
    """
    columns = teacher.columns(images.class_names)
    with _join_processes() as (rank, world_size), _lock(out, rank):
        if rank == 0:
            _prepare_store(teacher, images, out, data, options)
        if world_size > 1:
            torch.distributed.barrier()
        store = TokenLabelStore(out)
        mine = np.arange(len(store) * rank // world_size, len(store) * (rank + 1) // world_size)
        remaining = mine[store.states[mine] != LABELED]
        if on_start is not None:
            on_start(len(remaining))
        loader = whole_loader(
            images, teacher, options.fit, indices=remaining.tolist(), batch_size=batch_size, workers=workers
        )
        label = Labeler(teacher, columns, options, torch.device(device), precision)
        problems: list[str] = []
        notes: list[NamedNote] = []
        with TokenLabelWriter(out) as writer:
            for batch in loader:
                if len(batch.indices):
                    writer.write(batch.indices, *label(batch))
                for index, problem in batch.problems:
                    writer.mark_unreadable(index)
                    problems.append(problem)
                notes += batch.notes
                if on_batch is not None:
                    on_batch(len(batch.indices) + len(batch.problems))
        if world_size > 1:
            torch.distributed.barrier()
    return LabelReport(
        labeled=len(remaining) - len(problems),
        before=len(mine) - len(remaining),
        problems=tuple(problems),
        notes=tuple(notes),
    )


def _prepare_store(teacher: Teacher, images: ImageSet, out: Path, data: str, options: LabelOptions) -> None:
    """Create the store, or check that the existing one can be resumed."""
    manifest = list_images(images, data)
    info = StoreInfo(
        teacher=f"{teacher.name} (weights {teacher.digest})",
        preprocessing=_preprocessing_values(teacher, options),
        class_names=images.class_names,
        count=len(manifest.names),
        grid=teacher.grid,
        top_k=min(options.top_k, len(images.class_names)),
        fingerprint=manifest.fingerprint(),
    )
    if not out.exists():
        create_store(out, info, manifest)
        return
    store = TokenLabelStore(out)
    _check_same(store, info, manifest)
    # The files of images that are not labeled yet may have changed since the store was created.
    with TokenLabelWriter(out) as writer:
        writer.refresh_sizes(np.where(store.states == LABELED, store.sizes(), manifest.sizes))


def _preprocessing_values(teacher: Teacher, options: LabelOptions) -> dict:
    """Return the preprocessing as JSON values, with lists in the place of tuples."""
    values = {**asdict(teacher.preprocessing), "fit": options.fit, "flip": options.flip}
    values.pop("crop_pct")  # nothing is cropped
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _check_same(store: TokenLabelStore, info: StoreInfo, manifest: ImageManifest) -> None:
    """Check that the store was created with the same teacher, options and images.

    Raises:
        ValueError: They differ.
    """
    for name in ("teacher", "preprocessing", "grid", "top_k"):
        stored, current = getattr(store.info, name), getattr(info, name)
        if stored != current:
            raise ValueError(f"{store.path} was created with {name} {stored}, not {current}; choose another --output")
    records, problems = match(store, manifest, info.class_names, finished=False)
    if not problems and len(records) != len(store):
        problems = [f"it has {len(store):,} images, the data have {len(records):,}"]
    if not problems and (records != np.arange(len(store))).any():
        problems = ["its images are in another order"]
    if problems:
        raise ValueError(f"{store.path} was created with other data: {'; '.join(problems)}; choose another --output")


class WholeBatch(NamedTuple):
    """A batch of whole images.

    Attributes:
        pixels: (n, channels, R, R) uint8, the images in the teacher's square.
        boxes: (n, 4) float32, (left, top, right, bottom) of each image as shares of the square.
        indices: the index of each image in its set.
        problems: (index, error message) of the images that could not be read, which are not in ``pixels``.
        notes: remarks about images that were read.
    """

    pixels: Tensor
    boxes: Tensor
    indices: list[int]
    problems: list[tuple[int, str]]
    notes: list[NamedNote]


def whole_loader(
    images: ImageSet, teacher: Teacher, fit: str, *, indices: Sequence[int], batch_size: int, workers: int
) -> DataLoader:
    """Load the images of ``indices``, fitted into the teacher's square, in batches of type :class:`WholeBatch`."""
    return DataLoader(
        _WholeImages(images, teacher.preprocessing, fit),
        batch_size=batch_size,
        sampler=indices,
        num_workers=workers,
        worker_init_fn=ignore_signals,
        collate_fn=_collate,
    )


class _WholeImages(Dataset):
    """Whole images fitted into the teacher's square: index, pixels, box and notes, or index and error message."""

    def __init__(self, images: ImageSet, preprocessing: Preprocessing, fit: str) -> None:
        self.images, self.preprocessing, self.fit = images, preprocessing, fit

    def __len__(self) -> int:
        return len(self.images.labels)

    def __getitem__(
        self, index: int
    ) -> tuple[int, np.ndarray, tuple[float, ...], tuple[NamedNote, ...]] | tuple[int, str]:
        try:
            image = self.images.read(index)
            notes = named_notes(self.images.name(index), image)
            return index, *fit_whole(image, self.preprocessing, self.fit), notes
        except ImageError as error:
            return index, str(error)


def fit_whole(
    image: Image.Image, preprocessing: Preprocessing, fit: str
) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """Fit a whole image into the teacher's square.

    Returns:
        (R, R, channels) uint8, and the (left, top, right, bottom) of the image as shares of the square.
    """
    (height, width), filter_ = preprocessing.size, InterpolationMode(preprocessing.interpolation)
    if fit == "squeeze":
        return as_array(TF.resize(image, [height, width], filter_)), (0.0, 0.0, 1.0, 1.0)
    scale = min(width / image.width, height / image.height)
    w, h = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    left, top = (width - w) // 2, (height - h) // 2
    gray = tuple(round(255 * value) for value in preprocessing.mean)
    square = Image.new(image.mode, (width, height), gray if len(gray) > 1 else gray[0])
    square.paste(TF.resize(image, [h, w], filter_), (left, top))
    return as_array(square), (left / width, top / height, (left + w) / width, (top + h) / height)


def _collate(samples: Sequence[tuple]) -> WholeBatch:
    good = [sample for sample in samples if len(sample) == 4]
    pixels = torch.from_numpy(np.stack([sample[1] for sample in good])) if good else torch.empty(0, 1, 1, 1).byte()
    return WholeBatch(
        pixels.permute(0, 3, 1, 2),
        torch.tensor([sample[2] for sample in good]),
        [sample[0] for sample in good],
        [(sample[0], sample[1]) for sample in samples if len(sample) == 2],
        [note for sample in good for note in sample[3]],
    )


class Labeler:
    """A function from a batch of whole images to their token labels."""

    def __init__(
        self, teacher: Teacher, columns: Tensor, options: LabelOptions, device: torch.device, precision: torch.dtype
    ) -> None:
        self.teacher, self.options, self.device, self.precision = teacher, options, device, precision
        self.model = teacher.model.to(device).to(memory_format=torch.channels_last)
        same = len(columns) == len(teacher.class_name_lists[0]) and torch.equal(columns, torch.arange(len(columns)))
        self.columns = None if same else columns.to(device)

    @torch.inference_mode()
    def __call__(self, batch: WholeBatch) -> tuple[np.ndarray, np.ndarray]:
        """Compute the k best logits of every cell.

        Returns:
            Scores (n, h, w, k) float16, best first, and their class indices (n, h, w, k) int64.

        Raises:
            ValueError: The logits are not finite in float16.
        """
        images = self.teacher.preprocessing.normalize(batch.pixels.to(self.device))
        with self._autocast():
            logits = self.model(images)
            if self.options.flip:
                logits = (logits + self.model(images.flip(3)).flip(2)) / 2
        logits = logits.float() if self.columns is None else logits[..., self.columns].float()
        if self.options.fit == "keep":
            logits = _crop_maps(logits, batch.boxes.to(self.device))
        best = logits.topk(min(self.options.top_k, logits.shape[-1]), dim=-1)
        scores = best.values.half()
        if not scores.isfinite().all():
            raise ValueError(
                f"the teacher {self.teacher.name} gives logits that are not finite in float16: its weights are "
                "damaged, or the precision is too low; use another teacher, or --precision fp32"
            )
        return scores.cpu().numpy(), best.indices.cpu().numpy()

    def _autocast(self) -> AbstractContextManager:
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.precision)


def _crop_maps(logits: Tensor, boxes: Tensor) -> Tensor:
    """Crop every map (B, h, w, K) to its box (B, 4), given as shares, and resample it to the same number of cells."""
    h, w = logits.shape[1:3]
    sides = torch.tensor([w, h, w, h], device=logits.device)
    rois = list((boxes * sides)[:, None].unbind(0))
    return roi_align(logits.permute(0, 3, 1, 2), rois, (h, w), aligned=True).permute(0, 2, 3, 1)


@contextmanager
def _join_processes() -> Iterator[tuple[int, int]]:
    """Join the processes that torchrun started; yield the rank of this process and the number of processes."""
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world_size == 1:
        yield 0, 1
        return
    # One process may finish hours before another, so the default timeout of half an hour is too short.
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world_size, timeout=timedelta(days=30))
    try:
        yield rank, world_size
    finally:
        torch.distributed.destroy_process_group()


@contextmanager
def _lock(out: Path, rank: int) -> Iterator[None]:
    """Lock the store against a second labeling until this one ends; the system frees the lock of a killed process.

    Raises:
        ValueError: Another labeling holds the lock.
    """
    if rank:  # the process of rank 0 holds the lock for all
        yield
        return
    import fcntl  # imported here, since only labeling needs it and Windows does not have it

    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.with_name(f".volo-lock.{out.name}")
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(f"another process is labeling into {out}; wait until it ends, or stop it") from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
