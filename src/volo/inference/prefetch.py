"""Threads that work on many items, in order, with a bound on the number of results in memory."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


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
