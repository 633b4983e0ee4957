"""What the options of the tools change in a config."""

import pytest
from mmengine.config import Config

from scopevit.engine import config, libraries
from scopevit.errors import InputError


def test_test_time_augmentation_goes_into_the_innermost_data_sets():
    parts = [dict(type='A', pipeline=[1]), dict(type='Repeat', dataset=dict(pipeline=[1]))]
    cfg = Config(
        dict(
            model=dict(type='M'),
            test_dataloader=dict(dataset=dict(type='ConcatDataset', datasets=parts)),
            tta_model=dict(type='T'),
            tta_pipeline=[2],
        )
    )
    config.enable_tta(cfg, libraries.LIBRARIES['mmpose'])
    assert cfg.model == dict(type='T', module=dict(type='M'))
    first, second = cfg.test_dataloader.dataset.datasets
    assert first.pipeline == second.dataset.pipeline == [2]
    assert 'pipeline' not in cfg.test_dataloader.dataset


def test_annotations_are_not_flipped():
    load, resize = dict(type='LoadImageFromFile'), dict(type='mmseg.Resize', scale=64)
    annotations = dict(type='LoadAnnotations')
    pack = dict(type='PackSegInputs', meta_keys=('img_path', 'flip'))
    flips = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
    packed = dict(type='PackSegInputs', meta_keys=('img_path', 'flip', 'flip_direction'))
    augment = dict(type='TestTimeAug', transforms=[flips, [annotations], [packed]])
    for pipeline in ([load, resize, annotations, pack], [load, annotations, resize, pack]):
        assert config.flip_pipeline(pipeline) == [load, resize, augment]
    assert pack['meta_keys'] == ('img_path', 'flip')
    for pipeline in ([], [load], [load, dict(type='TestTimeAug')]):
        with pytest.raises(InputError, match='needs a tta_pipeline'):
            config.flip_pipeline(pipeline)


def test_options_may_add_what_the_runner_knows():
    cfg = Config(dict(model=dict()))
    config.merge_options(cfg, {'randomness.seed': 3, 'model.backbone.depth': 1})
    assert cfg.randomness.seed == 3
    assert cfg.model.backbone.depth == 1


def test_loaders_of_classification_are_those_of_its_own_tool(monkeypatch):
    monkeypatch.setattr(config, 'get_device', lambda: 'cuda')
    own = dict(pin_memory=True, persistent_workers=True, collate_fn=dict(type='default_collate'))
    said = dict(num_workers=2, **dict.fromkeys(own, False))
    loaders = dict(train_dataloader=dict(num_workers=2), val_dataloader=said, test_dataloader=None)
    cfg = Config(loaders)
    config.set_loader_defaults(cfg, libraries.LIBRARIES['mmpretrain'])
    assert cfg.train_dataloader == dict(num_workers=2, **own)
    assert cfg.val_dataloader == said
    assert cfg.test_dataloader is None
    for name in ('mmdet', 'mmseg', 'mmpose'):
        cfg = Config(loaders)
        config.set_loader_defaults(cfg, libraries.LIBRARIES[name])
        assert cfg.to_dict() == loaders


def test_loaders_get_nothing_that_has_no_use(monkeypatch):
    monkeypatch.setattr(config, 'get_device', lambda: 'cpu')
    cfg = Config(dict(test_dataloader=dict(batch_size=4)))
    config.set_loader_defaults(cfg, libraries.LIBRARIES['mmpretrain'])
    assert cfg.test_dataloader == dict(batch_size=4, collate_fn=dict(type='default_collate'))


def test_a_text_that_is_not_formatted(monkeypatch):
    cfg = Config(dict(model=dict(type='A', sizes=list(range(40)), **{'a.b': 1})))
    pretty = cfg.pretty_text

    def fail(*args, **kwargs):
        raise AssertionError

    with monkeypatch.context() as patched, config.unformatted(cfg):
        patched.setattr('mmengine.config.config.FormatCode', fail)
        plain = cfg.pretty_text
    assert plain != pretty == cfg.pretty_text
    assert Config.fromstring(plain, '.py').to_dict() == cfg.to_dict()
