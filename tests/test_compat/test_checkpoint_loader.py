"""mmengine loads weights from .safetensors files, and what it downloads as data only."""

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.runner import checkpoint
from mmengine.runner.checkpoint import CheckpointLoader, load_checkpoint
from safetensors.torch import save_file
from strangers import Exploit, serving
from torch import nn

from scopevit.errors import InputError

WEIGHTS = {'fc.weight': torch.tensor([[1.0, 2.0]]), 'fc.bias': torch.tensor([3.0])}


class Model(BaseModule):
    def __init__(self, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.fc = nn.Linear(2, 1)


def test_load_checkpoint(tmp_path):
    path = tmp_path / 'a.safetensors'
    save_file(WEIGHTS, path)
    model = Model()
    checkpoint = load_checkpoint(model, str(path), map_location='cpu', strict=True)
    assert checkpoint.keys() == {'state_dict'}
    assert (model.fc.weight.tolist(), model.fc.bias.item()) == ([[1.0, 2.0]], 3.0)


@pytest.mark.parametrize('prefix', [None, 'model.'])
def test_init_cfg(prefix, tmp_path):
    path = tmp_path / 'a.safetensors'
    save_file({f'{prefix or ""}{name}': value for name, value in WEIGHTS.items()}, path)
    model = Model(dict(type='Pretrained', checkpoint=str(path), prefix=prefix))
    model.init_weights()
    assert (model.fc.weight.tolist(), model.fc.bias.item()) == ([[1.0, 2.0]], 3.0)


@pytest.mark.parametrize(
    ('path', 'loader'),
    [
        ('a/b.safetensors', 'load_from_scopevit'),
        ('~/b.safetensors', 'load_from_scopevit'),
        ('a.safetensors/b.pth', 'load_from_local'),
        ('http://a.b/c.pth', 'load_from_scopevit'),
        ('backbone://a/b.pth', 'load_from_scopevit'),
        ('https://a.b/c.safetensors', 'load_from_scopevit'),
        ('s3://a/c.safetensors', 'load_from_ceph'),
    ],
)
def test_other_names_go_where_they_went(path, loader):
    assert CheckpointLoader._get_checkpoint_loader(path).__name__ == loader


@pytest.mark.parametrize(
    'scheme', ['', 'torchvision://', 'modelzoo://', 'openmmlab://', 'mmcls://']
)
def test_what_is_downloaded_runs_nothing(scheme, monkeypatch, tmp_path):
    content = {'state_dict': WEIGHTS, 'meta': Exploit(tmp_path / 'executed')}
    with serving(tmp_path) as server:
        torch.save(content, server.files / 'a.pth')
        for table in ('get_torchvision_models', 'get_external_models', 'get_mmcls_models'):
            monkeypatch.setattr(checkpoint, table, lambda: {'a': f'{server.url}a.pth'})
        name = f'{scheme}a' if scheme else f'{server.url}a.pth'
        with pytest.raises(InputError, match='it holds objects that could run code: .*/a.pth'):
            load_checkpoint(Model(), name)
    assert not (tmp_path / 'executed').exists()
