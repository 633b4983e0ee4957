"""Checks of checkpoints; tests/test_tools makes them fail in the tools."""

import pytest
import torch

from scopevit import ScopeViT
from scopevit.engine.checks import weights
from scopevit.errors import InputError


@pytest.mark.parametrize(
    'content', [{'state_dict': [torch.ones(1)]}, {1: torch.ones(1)}, {'state_dict': {1: 2}}, 3, {}]
)
def test_files_without_weights(content, tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(content, path)
    with pytest.raises(InputError, match=f'^no weights in {path}: '):
        weights.read_weights(path)


@pytest.mark.parametrize('content', [3, torch.ones(2), ['meta', 'state_dict', 'message_hub']])
def test_files_that_no_training_wrote(content, tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(content, path)
    said = f'^cannot resume from {path}, it has no meta, state_dict, message_hub; '
    with pytest.raises(InputError, match=said):
        weights.read_resumable(path)
    torch.save({'meta': content, 'state_dict': {}, 'message_hub': {}}, path)
    with pytest.raises(InputError, match='it has no meta.epoch, meta.iter; '):
        weights.read_resumable(path)


def test_fewer_stages_take_what_they_have_of_a_file(tmp_path):
    whole = ScopeViT('xtiny').state_dict()
    path = tmp_path / 'whole.pth'
    torch.save({'state_dict': {f'backbone.{k}': v for k, v in whole.items()}}, path)
    init_cfg = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    weights.check_pretrained(ScopeViT('xtiny', out_indices=(0, 1), init_cfg=init_cfg))
    with pytest.raises(InputError, match='does not fit'):
        weights.check_pretrained(ScopeViT('tiny', out_indices=(0, 1), init_cfg=init_cfg))


def test_bare_weights_are_not_kept_twice(tmp_path):
    torch.save({'a': torch.ones(1)}, tmp_path / 'bare.pth')
    checkpoint = weights.read_weights(tmp_path / 'bare.pth')
    assert checkpoint == {'state_dict': {'a': torch.ones(1)}}


@pytest.mark.parametrize('scheme', ['', 'backbone://'])
def test_what_was_checked_is_not_read_again(scheme, tmp_path):
    path = tmp_path / 'a.pth'
    whole = ScopeViT('xtiny').state_dict()
    torch.save({'state_dict': whole}, path)
    model = ScopeViT('xtiny', init_cfg=dict(type='Pretrained', checkpoint=f'{scheme}{path}'))
    weights.check_pretrained(model)
    other = {name: value + 1 for name, value in whole.items()}
    torch.save({'state_dict': other}, path)
    model.init_weights()
    assert all(torch.equal(value, whole[name]) for name, value in model.state_dict().items())
    model.is_init = False  # the next one is read: it may be another file by now
    model.init_weights()
    assert all(torch.equal(value, other[name]) for name, value in model.state_dict().items())
