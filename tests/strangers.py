"""Files of strangers, for tests: a pickle that runs code, and a server to download from."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch


class Exploit:
    """Pickles as a call that makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.system, (f'touch {self.target}',)


@dataclass
class Server:
    """A server on this machine.

    Attributes:
        url: Its address, with a slash at the end.
        files: Folder whose files it serves.
        cache: Where they are downloaded to.
        asked: The paths it was asked for.
    """

    url: str
    files: Path
    cache: Path
    asked: list[str] = field(default_factory=list)


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder; of a file named `cut`, half."""

    def __init__(self, *args, server_info: list[str], **kwargs) -> None:
        self.asked = server_info
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def copyfile(self, source, outputfile) -> None:
        content = source.read()
        outputfile.write(content[: len(content) // 2] if 'cut' in self.path else content)

    def log_message(self, *args) -> None:
        """Says nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Serves `folder/files`, and lets torch download into `folder/torch`."""
    (folder / 'files').mkdir()
    asked: list[str] = []
    handler = partial(Handler, directory=str(folder / 'files'), server_info=asked)
    with (
        pytest.MonkeyPatch.context() as patch,
        ThreadingHTTPServer(('127.0.0.1', 0), handler) as server,
    ):
        patch.setenv('TORCH_HOME', str(folder / 'torch'))
        patch.setenv('no_proxy', '127.0.0.1')
        threading.Thread(target=server.serve_forever, daemon=True).start()
        cache = Path(torch.hub.get_dir(), 'checkpoints')
        yield Server(f'http://127.0.0.1:{server.server_port}/', folder / 'files', cache, asked)
        server.shutdown()
