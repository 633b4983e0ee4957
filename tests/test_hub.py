"""Configs and models by name."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from strangers import Exploit, serving

import scopevit
from scopevit import hub
from scopevit.errors import InputError

CONFIGS = Path(__file__).parents[1] / 'configs'
DETECTOR = 'detection/mask-rcnn_scopevit-tiny_fpn_1x_coco.py'
CLASSIFIER = 'classification/scopevit-xtiny_8xb128_in1k.py'


def test_models_are_the_recipes():
    names = scopevit.list_models()
    assert len(set(names)) == len(names)  # a name tells the config
    assert {
        'deit-small_8xb128_in1k',
        'mask-rcnn_scopevit-xtiny_fpn_nuclei',
        'resnet18_fashion-mnist',
        'upernet_scopevit-small_8xb2-160k_ade20k-512x512',
    } <= set(names)
    assert not {'demo_runtime', 'in1k_224', 'resnet50', 'swin-2g'} & set(names)  # in _base_
    assert scopevit.list_models('td-hm_scopevit-*_8xb32-210e_coco-256x192') == [
        f'td-hm_scopevit-{size}_8xb32-210e_coco-256x192' for size in ('small', 'tiny', 'xtiny')
    ]
    assert scopevit.list_models('none-*') == []


@pytest.mark.parametrize('name', [Path(DETECTOR).stem, DETECTOR, DETECTOR.removesuffix('.py')])
def test_config_by_name_or_path(name):
    cfg = scopevit.get_config(name)
    assert Path(cfg.filename).samefile(CONFIGS / DETECTOR)
    assert cfg.to_dict() == Config.fromfile(CONFIGS / DETECTOR).to_dict()


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('scopevit-tiny_8xb256_in1k', 'did you mean scopevit-tiny_8xb128_in1k'),
        ('detection/mask-rcnn_scopevit-tiny_1x_coco', f'did you mean {DETECTOR[:-3]}'),
        ('zzz', r'no config zzz; scopevit.list_models\(\) has the names'),
        ('../tests/conftest.py', 'no config'),
    ],
)
def test_unknown_name(name, message):
    with pytest.raises(InputError, match=message):
        scopevit.get_config(name)
    with pytest.raises(InputError, match=message):
        scopevit.get_model(name)


def test_name_that_two_configs_have(monkeypatch, tmp_path):
    for folder in ('a', 'b', '_base_'):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / 'x.py').write_text('')
    monkeypatch.setattr(hub, 'CONFIGS', tmp_path)
    with pytest.raises(InputError, match='^x is the name of (a/x.py, b/x.py|b/x.py, a/x.py): '):
        hub.find_config('x')
    assert hub.find_config('a/x') == tmp_path / 'a' / 'x.py'


def test_model_with_weights(tmp_path):
    model = scopevit.get_model(Path(CLASSIFIER).stem)
    assert type(model).__module__ == 'mmpretrain.models.classifiers.image'
    parameters = sum(p.numel() for p in model.parameters())
    assert round(parameters / 1e6, 3) == 5.287  # as in README.md
    # From the data_preprocessor beside the model in the config.
    assert model.data_preprocessor.mean.flatten().tolist() == pytest.approx(
        [123.675, 116.28, 103.53]
    )
    path = tmp_path / 'a.pth'
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, path)
    loaded = scopevit.get_model(CLASSIFIER, pretrained=path)
    loaded.init_weights()  # which mmengine's Runner calls
    weights = model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in loaded.state_dict().items())

    model.head.fc = torch.nn.Linear(256, 7)
    torch.save({'state_dict': model.state_dict(), 'meta': {}}, path)
    with pytest.raises(InputError, match=r'head.fc.weight \(7, 256\) instead of \(1000, 256\)'):
        scopevit.get_model(CLASSIFIER, pretrained=path)
    with pytest.raises(InputError, match='checkpoint not found: .*nope.pth'):
        scopevit.get_model(CLASSIFIER, pretrained=tmp_path / 'nope.pth')


def test_model_with_downloaded_weights(tmp_path):
    with serving(tmp_path) as server:
        weights = {'state_dict': scopevit.get_model(CLASSIFIER).state_dict()}
        torch.save(weights | {'meta': Exploit(tmp_path / 'executed')}, server.files / 'code.pth')
        torch.save(weights, server.files / 'a.pth')
        weights['state_dict']['extra'] = torch.ones(1)
        torch.save(weights, server.files / 'b.pth')
        with pytest.raises(InputError, match='it holds objects that could run code: .*/code.pth'):
            scopevit.get_model(CLASSIFIER, pretrained=f'{server.url}code.pth')
        with pytest.raises(InputError, match='b.pth does not fit the model; 1 unexpected: extra'):
            scopevit.get_model(CLASSIFIER, pretrained=f'{server.url}b.pth')
        model = scopevit.get_model(CLASSIFIER, pretrained=f'{server.url}a.pth')
    assert not (tmp_path / 'executed').exists()
    loaded = model.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in weights['state_dict'].items() if k in loaded)
