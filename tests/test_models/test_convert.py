import argparse
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from golden import authors_weights
from mmengine.model import BaseModule
from mmengine.registry import MODELS

from scopevit import ScopeViT
from scopevit.checkpoint import read_checkpoint
from scopevit.errors import InputError
from scopevit.models.convert import convert_checkpoint

TOOL = Path(__file__).parents[2] / 'tools' / 'model_converters' / 'convert_weights.py'


@pytest.fixture(scope='module')
def weights():
    return authors_weights('xtiny')


def save(path, content):
    torch.save(content, path)
    return path


class Wrapper(BaseModule):
    def __init__(self, **backbone):
        super().__init__()
        self.backbone = MODELS.build(dict(type='ScopeViT', **backbone))


@pytest.mark.parametrize('key', [None, 'state_dict', 'state_dict_ema', 'model'])
@pytest.mark.parametrize('prefix', ['', 'module.', 'backbone.', 'module.backbone.'])
def test_every_wrapping(key, prefix, weights, tmp_path):
    wrapped = {prefix + name: value for name, value in weights.items()}
    src = save(tmp_path / 'src.pth', {key: wrapped, 'epoch': 300} if key else wrapped)
    assert convert_checkpoint(src, tmp_path / 'dst.pth') == 'xtiny'
    state_dict = torch.load(tmp_path / 'dst.pth', weights_only=True)['state_dict']
    assert torch.equal(state_dict['head.fc.weight'], weights['head.weight'])
    assert torch.equal(
        state_dict['backbone.stages.2.blocks.3.mssa.attn.scales.1.weight'],
        weights['blocks3.3.mssa.attn.mspe.medium_embed.weight'],
    )


def test_loads_with_nothing_missing_and_nothing_unexpected(weights, tmp_path, caplog):
    dst = tmp_path / 'dst.pth'
    convert_checkpoint(save(tmp_path / 'src.pth', weights), dst, backbone_only=True)
    state_dict = torch.load(dst, weights_only=True)['state_dict']
    assert all(name.startswith('backbone.') for name in state_dict)
    backbone = ScopeViT(
        'xtiny', init_cfg=dict(type='Pretrained', checkpoint=str(dst), prefix='backbone.')
    )
    backbone.init_weights()
    own = {f'backbone.{name}': value for name, value in backbone.state_dict().items()}
    assert own.keys() == state_dict.keys()
    assert all(torch.equal(own[name], state_dict[name]) for name in own)


def test_average_on_request(weights, tmp_path):
    average = {name: value + 1 for name, value in weights.items()}
    src = save(tmp_path / 'src.pth', {'state_dict': weights, 'state_dict_ema': average})
    for ema, expected in ((False, weights), (True, average)):
        convert_checkpoint(src, tmp_path / 'dst.pth', ema=ema)
        bias = torch.load(tmp_path / 'dst.pth', weights_only=True)['state_dict']['head.fc.bias']
        assert torch.equal(bias, expected['head.bias'])


def test_training_arguments_beside_the_weights(weights, tmp_path):
    src = save(tmp_path / 'src.pth', {'state_dict': weights, 'args': argparse.Namespace(lr=1e-3)})
    assert convert_checkpoint(src, tmp_path / 'dst.pth') == 'xtiny'


@pytest.mark.parametrize('arch', ['tiny', 'small'])
def test_other_sizes(arch, tmp_path):
    src = save(tmp_path / 'src.pth', authors_weights(arch))
    assert convert_checkpoint(src, tmp_path / 'dst.pth', backbone_only=True) == arch


@pytest.mark.parametrize('ending', ['pth', 'safetensors'])
def test_there_and_back(ending, weights, tmp_path):
    src = save(tmp_path / 'authors.pth', weights)
    for to in ('mm', 'timm', 'authors', 'timm', 'mm', 'authors'):  # every way but to itself
        dst = tmp_path / f'{to}.{ending}'
        assert convert_checkpoint(src, dst, to=to) == 'xtiny'
        src = dst
        found = read_checkpoint(dst)
        found = found['state_dict'] if ending == 'pth' else found
        first = {
            'mm': 'backbone.stages.0.patch_embed.0.weight',
            'timm': 'stages.0.patch_embed.0.weight',
            'authors': 'patch_embed1.projection.0.weight',
        }
        assert torch.equal(found[first[to]], weights[first['authors']])
    # The authors' checkpoints lack counts of batches.
    counts = {k for k in found if k.endswith('num_batches_tracked')}
    assert {k: v for k, v in found.items() if k not in counts or k in weights}.keys() == (
        weights.keys()
    )
    assert all(torch.equal(found[k], weights[k]) for k in weights)


def without(weights, name):
    return {k: v for k, v in weights.items() if k != name}


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda w: without(w, 'norm2.bias'), 'missing: norm2.bias'),
        (lambda w: without(w, 'head.weight'), 'xtiny); missing: head.weight'),
        (lambda w: without(w, 'head.bias'), 'xtiny); missing: head.bias'),
        (lambda w: w | {'blocks9.weight': torch.ones(2)}, 'unexpected: blocks9.weight'),
        (
            lambda w: w | {'norm1.weight': torch.ones(33)},
            'of another shape: norm1.weight (33,) instead of (32,)',
        ),
    ],
)
def test_misfits_are_listed_and_nothing_is_written(change, words, weights, tmp_path):
    src, dst = save(tmp_path / 'src.pth', change(weights)), tmp_path / 'dst.pth'
    dst.write_bytes(b'an earlier result')
    with pytest.raises(InputError) as caught:
        convert_checkpoint(src, dst)
    assert words in str(caught.value) and str(src) in str(caught.value)
    assert '\n' not in str(caught.value)
    assert dst.read_bytes() == b'an earlier result'
    assert sorted(p.name for p in tmp_path.iterdir()) == ['dst.pth', 'src.pth']


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('kind', ['lacking', 'text', 'truncated', 'code', 'numbers'])
def test_unreadable_sources(kind, weights, tmp_path):
    src, dst, trap = tmp_path / 'src.pth', tmp_path / 'dst.pth', tmp_path / 'trap'
    if kind == 'text':
        src.write_text('no checkpoint')
    elif kind == 'truncated':
        save(src, weights)
        src.write_bytes(src.read_bytes()[:-5000])
    elif kind == 'code':
        save(src, {'state_dict': weights, 'extra': Payload(trap)})
    elif kind == 'numbers':
        save(src, {'state_dict': {'head.weight': 3}})
    words = {
        'lacking': 'checkpoint not found',
        'text': 'not a checkpoint',
        'truncated': 'damaged',
        'code': 'could run code',
        'numbers': 'no weights',
    }
    with pytest.raises(InputError, match=words[kind]) as caught:
        convert_checkpoint(src, dst)
    assert str(src) in str(caught.value)
    assert not dst.exists() and not trap.exists()


def test_the_tool_as_a_process(weights, tmp_path):
    src, dst = save(tmp_path / 'src.pth', weights), tmp_path / 'new' / 'dst.pth'
    done = subprocess.run(
        [sys.executable, TOOL, src, dst, '--backbone-only'], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert 'ScopeViT-xtiny' in done.stdout and dst.is_file()

    done = subprocess.run(
        [sys.executable, TOOL, tmp_path / 'none.pth', dst], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.strip() == f'error: checkpoint not found: {tmp_path / "none.pth"}'
