"""Work in the background, while the network runs."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Input = TypeVar('Input')
Output = TypeVar('Output')
SECONDS = 0.1  # between two looks whether the work is still wanted


def map_in_background(
    function: Callable[[Input], Output], items: Iterable[Input], ahead: int, threads: int
) -> Generator[Output, None, None]:
    """Yields `function(item)` of each item, in their order, computed by threads beforehand.

    Args:
        function: What to compute; it may run for several items at a time.
        items: The items; one thread of its own iterates over them.
        ahead: Most results that wait to be taken.
        threads: How many compute.
    """
    waiting: queue.Queue[Future[Output] | None] = queue.Queue(ahead)
    done = threading.Event()

    def put(future: 'Future[Output] | None') -> None:
        while not done.is_set():
            try:
                return waiting.put(future, timeout=SECONDS)
            except queue.Full:
                pass

    def produce() -> None:
        iterator = iter(items)
        try:
            while not done.is_set():
                try:
                    item = next(iterator)
                except StopIteration:
                    break
                put(pool.submit(function, item))
        except BaseException as error:  # noqa: B036, raised where the result is taken
            failed: Future[Output] = Future()
            failed.set_exception(error)
            put(failed)
        finally:
            close = getattr(iterator, 'close', None)  # of a generator, which may hold a video
            if close:
                close()
            put(None)

    with ThreadPoolExecutor(threads, 'decode') as pool:
        producer = threading.Thread(target=produce, name='source', daemon=True)
        producer.start()
        try:
            while (future := waiting.get()) is not None:
                yield future.result()
        finally:
            done.set()
            producer.join()
            pool.shutdown(cancel_futures=True)
