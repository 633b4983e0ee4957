"""Models that fail in each of the ways that the libraries' do."""

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmcv import _ext as operators
from mmengine.model import BaseModel
from mmseg.registry import MODELS
from torch import Tensor, nn

from scopevit.model_zoo import segmentation_inputs  # noqa: F401  # before processes are forked
from scopevit.model_zoo.files import ConfigFile

MODEL = """
default_scope = 'mmseg'
model = dict(
    type='Rehearsal',
    how='{how}',
    data_preprocessor=dict(type='SegDataPreProcessor', size=(64, 64)),
    init_cfg=dict(type='Pretrained', checkpoint='https://example.org/weights.pth'),
)
"""


@MODELS.register_module(force=True)
class Rehearsal(BaseModel):
    """Takes a step of training in the way that it is told."""

    def __init__(self, how: str, data_preprocessor: dict, init_cfg: dict | None = None) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.how = how
        self.layer = nn.Conv2d(3, 1, 1)

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = '') -> Any:
        if mode == 'predict':
            return data_samples if self.how != 'predicts nothing' else None
        ways: dict[str, Callable[[], Any]] = {
            'operator': lambda: operators.no_such_operator(inputs),
            'package': lambda: __import__('no_such_package.part'),
            'network': lambda: socket.create_connection(('127.0.0.1', 9)),
            'memory': lambda: torch.ones(2**40),
            'hang': lambda: time.sleep(600),
            'compute': lambda: sum(iter(int, 1)),  # without an end
            'crash': lambda: os.kill(os.getpid(), signal.SIGKILL),
            'exit': lambda: os._exit(3),
            'raise': lambda: {}['key'],
        }
        ways.get(self.how, list)()
        loss = self.layer(inputs).mean()
        if self.how == 'no number':
            loss = loss / 0
        if self.how == 'no gradient':
            loss = torch.ones((), requires_grad=True)
        return {'loss': loss}


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., ConfigFile]:
    """A function that writes the config of a model that behaves in some way."""

    def write(how: str, family: str = 'family', more: str = '') -> ConfigFile:
        path = tmp_path / 'configs' / family / f'{how.replace(" ", "-")}.py'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(MODEL.format(how=how) + more)
        return ConfigFile('mmseg', family, f'{family}/{path.name}', path)

    return write
