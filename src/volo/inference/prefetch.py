"""Threads that work on many items, in order, with bounds on what is in memory at the same time."""

import ctypes
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import TypeVar

from volo.data.images import Shrink

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Pixels of images that are decoded at the same time. A photo of 48 megapixels takes 0.2 GB, and as much again while
#: it is rotated, and while its colors are converted to sRGB.
MOST_PIXELS = 1 << 26
#: The memory of images with more pixels is returned to the system as soon as they are cropped.
_LARGE = 1 << 24


class PixelGate:
    """A bound on the pixels of all images that threads decode and shrink at the same time.

    Args:
        most: pixels in all; an image that has more waits until it is the only one.
    """

    def __init__(self, most: int = MOST_PIXELS) -> None:
        self.most, self.used, self.changed = most, 0, threading.Condition()

    @contextmanager
    def place(self) -> Iterator[Shrink]:
        """Yield a function for the argument ``shrink`` of :func:`volo.data.read_image`, which does not shrink.

        It waits until there is room for the image. The room is given back at the end of the block, when the whole image
        must not be in use any more.
        """
        taken = 0

        def wait(size: tuple[int, int]) -> float:
            nonlocal taken
            pixels = size[0] * size[1]
            with self.changed:
                self.changed.wait_for(lambda: not self.used or self.used + pixels <= self.most)
                self.used += pixels
                taken += pixels
            return 1.0

        try:
            yield wait
        finally:
            if taken > _LARGE:
                _return_freed_memory()
            with self.changed:
                self.used -= taken
                self.changed.notify_all()


def _return_freed_memory() -> None:
    """Return memory to the system that is freed: glibc keeps it for the thread that freed it, for each one apart."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def map_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], *, count: int, overlap: bool = False
) -> Iterator[Result]:
    """Call ``function`` on every item in threads, and yield the results in order.

    Work runs in chunks of ``count``. Without ``overlap``, the consumer of the results has the CPU to itself between
    two chunks.

    Args:
        function: function to call; it should release the GIL, as the decoding of an image does.
        items: items, taken in the consumer's thread, ``count`` at a time.
        count: number of items in a chunk.
        overlap: start the next chunk before the results of this chunk are consumed, for a consumer that computes on
            an accelerator.
    """
    items, waiting = iter(items), deque[list[Future[Result]]]()
    with ThreadPoolExecutor(min(count, os.cpu_count() or 1)) as pool:
        try:
            while chunk := list(islice(items, count)):
                waiting.append([pool.submit(function, item) for item in chunk])
                if not overlap or len(waiting) > 1:
                    yield from (future.result() for future in waiting.popleft())
            for futures in waiting:
                yield from (future.result() for future in futures)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
