"""Work on many items in threads, in their order, with a bound on how many are held at a time."""

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
    """The results of ``function`` for every item, in order.

    Args:
        function: what is done in threads; it should spend its time outside Python, as decoding an image does.
        items: taken by the thread that takes the results, ``count`` at a time.
        count: items worked on together. Whoever takes as many results has the processor to itself then.
        overlap: begin with the next ``count`` before the results of these are taken: for a taker whose own work is
            done elsewhere, on an accelerator.
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
