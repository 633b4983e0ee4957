"""Writing checkpoints, at once or beside the training."""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from scopevit.errors import InputError
from scopevit.files import flush, replacing


class Writer:
    """Changes the files of a training, one after the other.

    Args:
        background: Whether in a thread of its own, while the training goes on. Once something has
            failed there, nothing more is done: what comes after may be to remove an older file.
    """

    def __init__(self, background: bool = False) -> None:
        self.background = background
        self._pool = ThreadPoolExecutor(1, 'checkpoints') if background else None
        self._pending: list[Future[None]] = []
        self._failed = False

    def do(self, action: Callable[..., object], *args: object) -> None:
        """Calls something, now or when what was asked before is done."""
        if self._pool is None:
            action(*args)
        else:
            self._pending.append(self._pool.submit(self._try, action, *args))

    def _try(self, action: Callable[..., object], *args: object) -> None:
        if self._failed:
            return
        try:
            action(*args)
        except BaseException:
            self._failed = True
            raise

    def check(self) -> None:
        """Raises what has failed so far."""
        while self._pending and self._pending[0].done():
            self._pending.pop(0).result()

    def wait(self) -> None:
        """Waits until all is done, and raises what has failed."""
        while self._pending:
            self._pending.pop(0).result()

    def finish(self) -> BaseException | None:
        """Waits until all is done; returns what has failed and was not raised."""
        if self._pool is not None:
            self._pool.shutdown()
        errors = [future.exception() for future in self._pending]
        return next((error for error in errors if error is not None), None)

    @contextmanager
    def writing(self, path: Path) -> Iterator[Path]:
        """Gives a file to write that becomes `path` when it is whole and the disk has it.

        Raises:
            InputError: If it cannot be written; in the background, at the next check.
        """
        if self._pool is None:
            with replacing(path) as part:
                yield part
                flush(part)  # a machine that goes down leaves the whole file or none
            flush_folder(path)
            return
        try:
            descriptor = os.memfd_create(path.name)  # a file in memory
        except OSError as error:
            raise InputError(f'no memory for {path}: {error.strerror}') from error
        try:
            yield Path('/proc/self/fd', str(descriptor))
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, OSError):
                raise InputError(f'no memory for {path}: {error.strerror}') from error
            raise
        self.do(copy_whole, descriptor, path)


def copy_whole(descriptor: int, path: Path) -> None:
    """Writes a file that is open to a disk, and closes it."""
    with os.fdopen(descriptor, 'r+b') as source:
        try:
            source.seek(0)
            with replacing(path) as part:
                with part.open('wb') as target:
                    shutil.copyfileobj(source, target)
                flush(part)
        finally:
            source.truncate(0)  # processes that load data may have it open, too
    flush_folder(path)


def flush_folder(path: Path) -> None:
    """Waits until the disk has the name of a file, where the file system can."""
    with suppress(OSError):
        flush(path.parent)
