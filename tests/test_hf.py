"""Classifiers for the Hugging Face hub and torch.hub."""

import json
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
import yaml
from golden import authors_weights

from scopevit.errors import InputError
from scopevit.hf import push_to_hf_hub, save_pretrained
from scopevit.models.convert import convert_state_dict

ROOT = Path(__file__).parents[1]
CONFIG = """
default_scope = 'mmpretrain'
model = dict(type='ImageClassifier', backbone=dict(type='ScopeViT', arch='xtiny'))
data_preprocessor = dict(mean=[102.0], std=[51.0], num_classes=4)
test_dataloader = dict(batch_size=2, dataset=dict(type='CustomDataset', pipeline=[
    dict(type='LoadImageFromFile', color_type='grayscale'),
    dict(type='ResizeEdge', scale=80, edge='short', interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=64),
    dict(type='PackInputs'),
]))
"""


@pytest.fixture(scope='module')
def weights():
    """Of four classes and grey images."""
    theirs = authors_weights('xtiny')
    theirs |= {f'head.{kind}': theirs[f'head.{kind}'][:4] for kind in ('weight', 'bias')}
    name = 'patch_embed1.projection.0.weight'
    theirs[name] = theirs[name][:, :1]
    return convert_state_dict(theirs)[0]


@pytest.fixture(scope='module')
def folder(weights, tmp_path_factory):
    place = tmp_path_factory.mktemp('hf')
    meta = {'cfg': CONFIG, 'dataset_meta': {'classes': ('a', 'b', 'c', 'd')}}
    torch.save({'state_dict': weights, 'meta': meta}, place / 'a.pth')
    recipe = 'scopevit-xtiny_8xb128_in1k'
    return save_pretrained(place / 'a.pth', place / 'saved', recipe, {'accuracy/top1': 81.25})


def test_timm_loads_it(folder, weights):
    model = timm.create_model(f'local-dir:{folder}', pretrained=True)
    state = model.state_dict()
    assert all(torch.equal(state[k.removeprefix('backbone.')], v) for k, v in weights.items())
    config = timm.data.resolve_data_config({}, model=model)
    assert config['mean'] == pytest.approx((0.4,))
    assert config['std'] == pytest.approx((0.2,))
    assert (config['input_size'], config['crop_pct']) == ((1, 64, 64), 0.8)
    assert json.loads((folder / 'config.json').read_text())['label_names'] == list('abcd')
    assert sorted(p.name for p in folder.iterdir()) == [
        'README.md', 'config.json', 'model.safetensors',
    ]  # fmt: skip


def test_card(folder, weights):
    _, head, text = (folder / 'README.md').read_text().split('---\n', 2)
    assert yaml.safe_load(head)['license'] == 'apache-2.0'
    statistics = ('mean', 'var', 'tracked')  # of batch norms, which are no parameters
    count = sum(v.numel() for k, v in weights.items() if not k.endswith(statistics))
    assert f'| parameters | {count:,} |' in text
    assert '| recipe | configs/classification/scopevit-xtiny_8xb128_in1k.py |' in text
    assert '| accuracy/top1 | 81.25 |' in text


def test_card_of_what_nobody_measured(weights, tmp_path):
    torch.save(weights, tmp_path / 'a.pth')
    save_pretrained(tmp_path / 'a.pth', tmp_path / 'saved', repo_id='me/mine')
    text = (tmp_path / 'saved' / 'README.md').read_text()
    assert 'Not measured yet.' in text
    assert "create_model('hf-hub:me/mine', pretrained=True)" in text


def test_bad_input(weights, tmp_path):
    torch.save(weights, tmp_path / 'a.pth')
    torch.save({'x': torch.ones(2)}, tmp_path / 'b.pth')
    with pytest.raises(InputError, match='no recipe zzz of classification: scopevit-'):
        save_pretrained(tmp_path / 'a.pth', tmp_path / 'saved', recipe='zzz')
    with pytest.raises(InputError, match=r'b\.pth: not one of'):
        save_pretrained(tmp_path / 'b.pth', tmp_path / 'saved')
    assert not (tmp_path / 'saved').exists()
    with pytest.raises(InputError, match='has no model.safetensors and no config.json'):
        push_to_hf_hub(tmp_path, 'me/mine')
    tool = ROOT / 'tools/model_converters/save_pretrained.py'
    (tmp_path / 'm.json').write_text('[]')
    command = [sys.executable, tool, 'a.pth', 'out', '--metrics', 'm.json']
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (run.returncode, 'not a metrics.json' in run.stderr) == (1, True), run.stderr


def test_upload(folder, monkeypatch):
    calls = []

    class Api:
        def create_repo(self, repo_id, **options):
            calls.append((repo_id, options))
            return huggingface_hub.RepoUrl(f'https://huggingface.co/{repo_id}')

        def upload_folder(self, **options):
            calls.append(options)

    monkeypatch.setattr(huggingface_hub, 'HfApi', Api)
    assert push_to_hf_hub(folder, 'me/mine') == 'https://huggingface.co/me/mine'
    assert calls == [
        ('me/mine', dict(private=False, exist_ok=True)),
        dict(repo_id='me/mine', folder_path=str(folder)),
    ]


def test_torch_hub(weights, tmp_path):
    path = tmp_path / 'a.pth'
    torch.save({'state_dict': weights}, path)

    def load(**options):
        return torch.hub.load(str(ROOT), 'scopevit_xtiny', source='local', **options)

    model = load(pretrained=str(path))
    assert torch.equal(model.state_dict()['head.fc.bias'], weights['head.fc.bias'])
    assert load(pretrained=str(path), num_classes=7).num_classes == 7
    assert load(num_classes=3).num_classes == 3
    torch.save({'x': torch.ones(2)}, path)
    with pytest.raises(InputError, match=r'a\.pth is not of a classifier'):
        load(pretrained=str(path))
