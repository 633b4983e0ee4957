"""What `scopevit info` tells, on machines that are made up."""

import json
from types import SimpleNamespace

import torch

from scopevit import info
from scopevit.engine.libraries import LIBRARIES
from scopevit.errors import InputError
from scopevit.hub import list_models
from scopevit_command import main


def test_json_and_text(capsys):
    assert main(['info', '--json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert found['versions']['torch'] == torch.__version__
    assert set(LIBRARIES) <= set(found['versions']) and found['not installed'] == []
    # Each acts on importing what is imported here, in every environment.
    assert {'external_configs', 'checkpoint_loader'} <= set(found['shims'])
    assert found['configs']['number'] == len(list_models())
    assert main(['info']) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines['torch'] == torch.__version__
    assert lines['GPU'] == 'none that torch can use'
    assert lines['configs'].startswith(f'{len(list_models())} in /')


def test_gpus(monkeypatch):
    gpus = [
        SimpleNamespace(name=f'Made Up {i}', total_memory=(80 + i) * 2**30, major=9, minor=0)
        for i in range(2)
    ]
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda i: gpus[i])
    monkeypatch.setattr(torch.version, 'cuda', '13.0')
    monkeypatch.setattr(torch.backends.cudnn, 'version', lambda: 92400)
    monkeypatch.setattr(info, 'driver_version', lambda: '580.1')
    found = info.describe_devices()
    assert found['GPUs'][1] == {
        'name': 'Made Up 1', 'memory in GiB': 81.0, 'compute capability': '9.0',
    }  # fmt: skip
    text = info.as_text(info.describe_installation())
    assert 'GPU 0           Made Up 0, 80.0 GiB, compute capability 9.0\n' in text
    assert 'driver          580.1\nCUDA of torch   13.0\ncuDNN           92400\n' in text


def test_library_that_is_missing(monkeypatch):
    def find(name):
        if name == 'mmpose':
            raise InputError('mmpose is not installed')
        return find_library(name)

    find_library = info.find_library
    monkeypatch.setattr(info, 'find_library', find)
    found = info.describe_installation()
    assert found['not installed'] == ['mmpose'] and 'mmpose' not in found['versions']
    assert 'mmpose          not installed' in info.as_text(found)
