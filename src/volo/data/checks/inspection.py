"""Reading every image of a data set once, in this process or in several."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from torch.utils.data import DataLoader, Dataset

from volo.data.loader import ignore_signals

#: The result of inspecting one image.
InspectedItem = TypeVar("InspectedItem")


class Inspection(Dataset[InspectedItem]):
    """The images of all splits, one split after the other; a subclass defines how to inspect one image.

    Args:
        lengths: split → number of its images.

    Attributes:
        places: (split, index in the split) of every image.
        batch_size: images that a process inspects before it hands over their results.
    """

    batch_size = 32

    def __init__(self, lengths: Mapping[str, int]) -> None:
        self.places = [(split, index) for split, length in lengths.items() for index in range(length)]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, number: int) -> InspectedItem:
        return self.inspect(*self.places[number])

    def inspect(self, split: str, index: int) -> InspectedItem:
        """Read one image and return the result; record a problem instead of raising an error."""
        raise NotImplementedError


def inspect_all(
    dataset: Inspection[InspectedItem], workers: int, on_image: Callable[[int], None] | None = None
) -> list[InspectedItem]:
    """Inspect every image once.

    Args:
        dataset: the images.
        workers: number of processes that read; 0 reads in this one.
        on_image: called after each batch with the number of images in the batch.

    Returns:
        The results in the order of ``dataset.places``.
    """
    results: list[InspectedItem] = []
    for batch in DataLoader(
        dataset, batch_size=dataset.batch_size, num_workers=workers, worker_init_fn=ignore_signals, collate_fn=list
    ):
        results += batch
        if on_image is not None:
            on_image(len(batch))
    return results
