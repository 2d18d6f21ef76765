"""Labeling every region of a set of images by a teacher, into a store of token labels."""

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
from volo.data.loader import leave_signals
from volo.data.preprocessing import as_array
from volo.data.token_labels.listing import ImageManifest, list_images
from volo.data.token_labels.match import match
from volo.data.token_labels.store import LABELED, StoreInfo, TokenLabelStore
from volo.data.token_labels.writer import TokenLabelWriter, create_store
from volo.labeling.teachers import Teacher

FITS = ("squeeze", "keep")


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """How images are labeled; written into the store.

    Attributes:
        fit: how an image fills the teacher's square: ``squeeze`` to it, or ``keep`` its aspect, the rest being gray;
            the labels cover the whole image in either case.
        flip: average the logits of the image and of its mirror image.
        top_k: classes kept for each cell.
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
    """What one process did.

    Attributes:
        labeled: images labeled now.
        before: images that were labeled already.
        problems: one message for each image that cannot be read.
    """

    labeled: int
    before: int
    problems: tuple[str, ...]


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
    """Label what is not labeled yet; a store that another process was stopped in the midst of is gone on with.

    Under ``torchrun`` each process labels its own range of the images.

    Args:
        teacher: knows every class of ``images``.
        images: in the channels of the teacher.
        out: the store, made if it is not there.
        data: what the person named to open the images.
        options: how.
        batch_size: images at a time.
        workers: processes that decode.
        device: where to compute.
        precision: in which the teacher computes, float32 or a half one.
        on_start: called once with the number of images to come.
        on_batch: called after every batch with the number of images done.

    Raises:
        ValueError: the teacher does not know a class; the store there is of another teacher, other options or other
            images; the disk has no room; or the teacher gives logits that are not finite.
    """
    columns = teacher.columns(images.class_names)
    with _processes() as (rank, world_size), _locked(out, rank):
        if rank == 0:
            _prepare(teacher, images, out, data, options)
        if world_size > 1:
            torch.distributed.barrier()
        store = TokenLabelStore(out)
        mine = np.arange(len(store) * rank // world_size, len(store) * (rank + 1) // world_size)
        todo = mine[store.states[mine] != LABELED]
        if on_start is not None:
            on_start(len(todo))
        loader = whole_loader(
            images, teacher, options.fit, indices=todo.tolist(), batch_size=batch_size, workers=workers
        )
        label = Labeler(teacher, columns, options, torch.device(device), precision)
        problems: list[str] = []
        with TokenLabelWriter(out) as writer:
            for batch in loader:
                if len(batch.indices):
                    writer.write(batch.indices, *label(batch))
                for index, problem in batch.problems:
                    writer.mark_unreadable(index)
                    problems.append(problem)
                if on_batch is not None:
                    on_batch(len(batch.indices) + len(batch.problems))
        if world_size > 1:
            torch.distributed.barrier()
    return LabelReport(labeled=len(todo) - len(problems), before=len(mine) - len(todo), problems=tuple(problems))


def _prepare(teacher: Teacher, images: ImageSet, out: Path, data: str, options: LabelOptions) -> None:
    """Make the store, or see that the one there can be gone on with."""
    listing = list_images(images, data)
    info = StoreInfo(
        teacher=f"{teacher.name} (weights {teacher.digest})",
        preprocessing=_described(teacher, options),
        class_names=images.class_names,
        count=len(listing.names),
        grid=teacher.grid,
        top_k=min(options.top_k, len(images.class_names)),
        fingerprint=listing.fingerprint(),
    )
    if not out.exists():
        create_store(out, info, listing)
        return
    store = TokenLabelStore(out)
    _check_same(store, info, listing)
    with TokenLabelWriter(out) as writer:  # of images that are to be labeled now
        writer.refresh_sizes(np.where(store.states == LABELED, store.sizes(), listing.sizes))


def _described(teacher: Teacher, options: LabelOptions) -> dict:
    """The preprocessing as JSON values, in which lists are no tuples."""
    values = {**asdict(teacher.preprocessing), "fit": options.fit, "flip": options.flip}
    values.pop("crop_pct")  # nothing is cropped
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def _check_same(store: TokenLabelStore, info: StoreInfo, listing: ImageManifest) -> None:
    for name in ("teacher", "preprocessing", "grid", "top_k"):
        there, here = getattr(store.info, name), getattr(info, name)
        if there != here:
            raise ValueError(f"{store.path} was begun with {name} {there}, not {here}; choose another --out")
    records, problems = match(store, listing, info.class_names, finished=False)
    if not problems and len(records) != len(store):
        problems = [f"it has {len(store):,} images, the data have {len(records):,}"]
    if not problems and (records != np.arange(len(store))).any():
        problems = ["its images are in another order"]
    if problems:
        raise ValueError(f"{store.path} was begun with other data: {'; '.join(problems)}; choose another --out")


class WholeBatch(NamedTuple):
    """A batch of whole images: where each lies in its square, which they are, and which could not be read and why."""

    pixels: Tensor
    boxes: Tensor
    indices: list[int]
    problems: list[tuple[int, str]]


def whole_loader(
    images: ImageSet, teacher: Teacher, fit: str, *, indices: Sequence[int], batch_size: int, workers: int
) -> DataLoader:
    """The images of ``indices`` in batches, :class:`WholeBatch`, as the teacher is to see them."""
    return DataLoader(
        _WholeImages(images, teacher.preprocessing, fit),
        batch_size=batch_size,
        sampler=indices,
        num_workers=workers,
        worker_init_fn=leave_signals,
        collate_fn=_collate,
    )


class _WholeImages(Dataset):
    """Images fitted whole into the teacher's square, with the (left, top, right, bottom) shares of it they fill."""

    def __init__(self, images: ImageSet, preprocessing: Preprocessing, fit: str) -> None:
        self.images, self.preprocessing, self.fit = images, preprocessing, fit

    def __len__(self) -> int:
        return len(self.images.labels)

    def __getitem__(self, index: int) -> tuple[int, np.ndarray, tuple[float, ...]] | tuple[int, str]:
        try:
            return index, *fit_whole(self.images.read(index), self.preprocessing, self.fit)
        except ImageError as error:
            return index, str(error)


def fit_whole(
    image: Image.Image, preprocessing: Preprocessing, fit: str
) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """The whole image in the teacher's square, (R, R, channels) uint8, and the share of the square that it fills."""
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
    good = [sample for sample in samples if len(sample) == 3]
    pixels = torch.from_numpy(np.stack([sample[1] for sample in good])) if good else torch.empty(0, 1, 1, 1).byte()
    return WholeBatch(
        pixels.permute(0, 3, 1, 2),
        torch.tensor([sample[2] for sample in good]),
        [sample[0] for sample in good],
        [(sample[0], sample[1]) for sample in samples if len(sample) == 2],
    )


class Labeler:
    """Scores and classes (n, h, w, k) of a batch of whole images."""

    def __init__(
        self, teacher: Teacher, columns: Tensor, options: LabelOptions, device: torch.device, precision: torch.dtype
    ) -> None:
        self.teacher, self.options, self.device, self.precision = teacher, options, device, precision
        self.model = teacher.model.to(device).to(memory_format=torch.channels_last)
        same = len(columns) == len(teacher.namings[0]) and torch.equal(columns, torch.arange(len(columns)))
        self.columns = None if same else columns.to(device)

    @torch.inference_mode()
    def __call__(self, batch: WholeBatch) -> tuple[np.ndarray, np.ndarray]:
        images = self.teacher.preprocessing.normalize(batch.pixels.to(self.device))
        with self._half():
            logits = self.model(images)
            if self.options.flip:
                logits = (logits + self.model(images.flip(3)).flip(2)) / 2
        logits = logits.float() if self.columns is None else logits[..., self.columns].float()
        if self.options.fit == "keep":
            logits = _inner(logits, batch.boxes.to(self.device))
        best = logits.topk(min(self.options.top_k, logits.shape[-1]), dim=-1)
        scores = best.values.half()
        if not scores.isfinite().all():
            raise ValueError(
                f"the teacher {self.teacher.name} gives logits that are not finite in float16: its weights are "
                "damaged, or the precision is too low; take another teacher, or float32"
            )
        return scores.cpu().numpy(), best.indices.cpu().numpy()

    def _half(self) -> AbstractContextManager:
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.precision)


def _inner(logits: Tensor, boxes: Tensor) -> Tensor:
    """The part of every map (B, h, w, K) within a box (B, 4) of shares, on the same number of cells."""
    h, w = logits.shape[1:3]
    sides = torch.tensor([w, h, w, h], device=logits.device)
    rois = list((boxes * sides)[:, None].unbind(0))
    return roi_align(logits.permute(0, 3, 1, 2), rois, (h, w), aligned=True).permute(0, 2, 3, 1)


@contextmanager
def _processes() -> Iterator[tuple[int, int]]:
    """This process's rank and how many there are, as torchrun says."""
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if world_size == 1:
        yield 0, 1
        return
    # One may be done hours before another: the usual half of an hour is no time to wait.
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world_size, timeout=timedelta(days=30))
    try:
        yield rank, world_size
    finally:
        torch.distributed.destroy_process_group()


@contextmanager
def _locked(out: Path, rank: int) -> Iterator[None]:
    """Keep a second labeling away from the store as long as this one runs, however it ends."""
    if rank:
        yield
        return
    import fcntl  # here, since only labeling needs a system that has it

    out.parent.mkdir(parents=True, exist_ok=True)
    path = out.with_name(f".{out.name}.lock")
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(f"another process is labeling into {out}; wait for it, or stop it") from error
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
