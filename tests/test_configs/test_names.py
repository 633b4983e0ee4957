"""What a recipe's name and text say is what its parsed config holds."""

import ast
import copy
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest
from recipes import (
    CONFIGS,
    MODERN,
    OURS,
    PEERS,
    PRIMITIVES,
    RECIPES,
    SIZES,
    VARIANTS,
    backbone_name,
    is_classifier,
    load,
    method,
    primitive,
    stem,
)

from scopevit.engine.config import merge_options
from scopevit.engine.walk import type_name

EPOCHS = {'1x': 12, '3x': 36}  # the field's words


def numbers(pattern: str, recipe: str) -> tuple[int, ...] | None:
    """The numbers in the one place of a name that fits a pattern."""
    found = re.findall(pattern, stem(recipe))
    assert len(found) <= 1, found
    return tuple(map(int, found[0])) if found else None


def steps(cfg: dict, *modes: str) -> list[dict]:
    return [step for mode in modes for step in cfg[f'{mode}_dataloader'].dataset.pipeline]


def settings(cfg: dict, step: str, key: str, *modes: str) -> list:
    """A setting of each step of a type in the pipelines of some modes."""
    return [s[key] for s in steps(cfg, *modes) if type_name(s) == step]


def items(value: object, path: str = '') -> Iterator[tuple[str, object]]:
    """Every key in a config with its value, however deep."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in pairs:
        yield f'{path}.{key}', child
        if isinstance(child, (dict, list, tuple)):
            yield from items(child, f'{path}.{key}')


def test_every_task_has_its_recipes():
    assert {recipe.split('/')[0] for recipe in PRIMITIVES} == {
        'classification', 'detection', 'segmentation', 'pose'
    }  # fmt: skip
    assert len(SIZES) == 2 * len(PRIMITIVES)  # xtiny and small of each


def test_what_is_shared_has_two_that_share_it():
    texts = [path.read_text() for path in CONFIGS.rglob('*.py')]
    # Those of own_data are for configs that `scopevit new` writes, sharded.py for those of users.
    others = [*(CONFIGS / '_base_' / 'own_data').iterdir(), CONFIGS / '_base_' / 'sharded.py']
    bases = [path for path in (CONFIGS / '_base_').rglob('*.py') if path not in others]
    shared = [path.name for path in bases]
    assert [name for name in shared if sum(f"/{name}'" in text for text in texts) < 2] == []


@pytest.mark.parametrize('recipe', [*OURS, *MODERN])
def test_arch(recipe):
    assert f'scopevit-{load(recipe).model.backbone.arch}' == backbone_name(recipe)


@pytest.mark.parametrize('recipe', [*RECIPES, *MODERN])
def test_gpus_and_batch(recipe):
    cfg = load(recipe)
    gpus, batch = numbers(r'(\d+)xb(\d+)', recipe) or (8, 2)
    if recipe not in MODERN:  # whose names are those of their heads' own recipes
        assert ('xb' in stem(recipe)) != recipe.startswith('detection/')
    assert cfg.train_dataloader.batch_size == batch
    assert cfg.auto_scale_lr.base_batch_size == gpus * batch
    assert not cfg.auto_scale_lr.get('enable', False)


@pytest.mark.parametrize('recipe', [*RECIPES, *MODERN])
def test_schedule(recipe):
    train_cfg = load(recipe).train_cfg
    words = re.findall(r'(?<=[-_])(?:\dx|\d+k|\d+e)(?=[-_])', stem(recipe))
    if '-lsj-50e_coco' in recipe:
        # 118,000 images of COCO for 50 epochs, 16 images a step.
        assert (words, train_cfg.max_iters) == (['50e'], 50 * 118_000 // 16)
        assert max(train_cfg.dynamic_intervals)[1] == train_cfg.max_iters  # validated at the end
        return
    assert len(words) == (0 if method(recipe) == 'in1k' else 1)
    word = words[0] if words else '300e'
    if word.endswith('k'):
        assert train_cfg.type == 'IterBasedTrainLoop'
        assert train_cfg.max_iters == int(word[:-1]) * 1000
    else:
        assert train_cfg.get('by_epoch', True)
        assert train_cfg.max_epochs == (EPOCHS.get(word) or int(word[:-1]))
    length = train_cfg.get('max_iters') or train_cfg.max_epochs
    if load(recipe).get('val_dataloader') is None:
        assert method(recipe) == 'mocov3'  # which has no labels to validate by
        return
    assert length % train_cfg.val_interval == 0  # so that the last weights are validated, too


@pytest.mark.parametrize('recipe', [r for r in RECIPES if is_classifier(r)])
def test_image_size_of_classifiers(recipe):
    cfg = load(recipe)
    (size,) = settings(cfg, 'RandomResizedCrop', 'scale', 'train')
    assert settings(cfg, 'CenterCrop', 'crop_size', 'val', 'test') == [size, size]
    # The crop is 0.9 of the short side.
    edges = settings(cfg, 'ResizeEdge', 'scale', 'val', 'test')
    assert edges == [{224: 248, 256: 284}[size]] * 2
    assert size == 256 or recipe in PEERS
    kinds = settings(cfg, 'RandomResizedCrop', 'interpolation', 'train')
    kinds += settings(cfg, 'ResizeEdge', 'interpolation', 'val', 'test')
    assert kinds == ['bicubic'] * 3


@pytest.mark.parametrize('recipe', [r for r in RECIPES if r.startswith('detection/')])
def test_image_size_of_detectors(recipe):
    cfg = load(recipe)
    assert settings(cfg, 'Resize', 'scale', 'val', 'test') == [(1333, 800)] * 2
    if '_ms-' in stem(recipe):
        assert settings(cfg, 'Resize', 'scale', 'train') == []
        assert settings(cfg, 'RandomChoiceResize', 'scales', 'train') == [
            [(1333, side) for side in (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)]
        ]
    else:
        assert settings(cfg, 'Resize', 'scale', 'train') == [(1333, 800)]
    resizes = [s for s in steps(cfg, 'train', 'val', 'test') if 'Resize' in s.type]
    assert [s.keep_ratio for s in resizes] == [True] * 3


@pytest.mark.parametrize('recipe', [r for r in RECIPES if r.startswith('segmentation/')])
def test_image_size_of_segmentors(recipe):
    cfg = load(recipe)
    size = numbers(r'-(\d+)x(\d+)$', recipe)
    assert settings(cfg, 'RandomCrop', 'crop_size', 'train') == [size]
    assert cfg.model.data_preprocessor.size == size
    assert settings(cfg, 'RandomResize', 'scale', 'train') == [(2048, size[0])]
    assert settings(cfg, 'Resize', 'scale', 'val', 'test') == [(2048, size[0])] * 2
    assert cfg.model.test_cfg.mode == 'whole'


@pytest.mark.parametrize('recipe', [r for r in RECIPES if r.startswith('pose/')])
def test_image_size_of_pose_estimators(recipe):
    cfg = load(recipe)
    height, width = numbers(r'-(\d+)x(\d+)$', recipe)
    modes = ('train', 'val', 'test')
    assert settings(cfg, 'TopdownAffine', 'input_size', *modes) == [(width, height)] * 3
    encoders = settings(cfg, 'GenerateTarget', 'encoder', *modes)
    assert encoders == [cfg.model.head.decoder] == [
        dict(
            type='MSRAHeatmap',
            input_size=(width, height),
            heatmap_size=(width // 4, height // 4),
            sigma=2,
        )
    ]  # fmt: skip
    assert cfg.model.test_cfg.flip_test is True


@pytest.mark.parametrize('recipe', [r for r in RECIPES if r not in PRIMITIVES])
def test_differs_from_the_primitive_in_the_model_alone(recipe):
    cfg, tiny = load(recipe), load(primitive(recipe))
    differing = {key for key in {*cfg, *tiny} if cfg.get(key) != tiny.get(key)}
    # Names that only help to write a recipe down.
    differing -= {'peer_backbone', 'peer_channels'}
    if recipe in PEERS:  # some have parameters that ScopeViT has not, says test_recipe_networks
        differing.discard('optim_wrapper')
        assert only_paramwise_differs(cfg.optim_wrapper, tiny.optim_wrapper)
    if is_classifier(recipe) and recipe in PEERS:  # some take smaller images
        pipelines = ('train_pipeline', 'test_pipeline')
        loaders = ('train_dataloader', 'val_dataloader', 'test_dataloader')
        differing -= {*pipelines, *loaders}
        for key in loaders:
            ours, theirs = tiny[key].copy(), cfg[key].copy()
            ours.dataset = dict(ours.dataset, pipeline=None)
            theirs.dataset = dict(theirs.dataset, pipeline=None)
            assert ours == theirs
    assert differing == {'model'}


def only_paramwise_differs(theirs: dict, ours: dict) -> bool:
    """Whether two optimizers are the same but for additional keys and CoaT's repeated modules."""
    theirs, ours = copy.deepcopy(theirs), copy.deepcopy(ours)
    paramwise = theirs.get('paramwise_cfg', {})
    paramwise.pop('bypass_duplicate', None)
    ours_keys = ours.get('paramwise_cfg', {}).pop('custom_keys', {})
    keys = paramwise.pop('custom_keys', {})
    spared = {key for key, value in keys.items() if value == dict(decay_mult=0.0)}
    return theirs == ours and spared == set(keys) >= set(ours_keys)


@pytest.mark.parametrize('recipe', SIZES)
def test_size_file_is_short_and_inherits_the_primitive(recipe):
    text = (CONFIGS / recipe).read_text()
    assert len(text.splitlines()) <= 12
    assert text.startswith(f"_base_ = './{stem(primitive(recipe))}.py'\n")
    assert '_delete_' not in text


@pytest.mark.parametrize('recipe', VARIANTS)
def test_variant_trains_the_same_model(recipe):
    plain = recipe.replace('-ema_', '_').replace('_ms-3x_', '_1x_').replace('384x288', '256x192')
    model, plain_model = (copy.deepcopy(load(r).model) for r in (recipe, plain))
    if recipe.startswith('pose/'):  # test_image_size_of_pose_estimators has the decoders
        del model.head.decoder, plain_model.head.decoder
    assert model == plain_model
    assert load(recipe).optim_wrapper == load(plain).optim_wrapper


@pytest.mark.parametrize('recipe', [r for r in RECIPES if method(r) == 'in1k'])
def test_imagenet_is_augmented_as_the_authors_do(recipe):
    cfg = load(recipe)
    assert cfg.model.train_cfg == dict(
        augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]
    )
    loss = cfg.model.get('loss') or cfg.model.head.loss
    assert (loss.type, loss.label_smooth_val) == ('LabelSmoothLoss', 0.1)
    randaugment, erasing = (
        next(step for step in steps(cfg, 'train') if type_name(step) == kind)
        for kind in ('RandAugment', 'RandomErasing')
    )
    assert randaugment.policies == 'timm_increasing'
    levels = ('num_policies', 'total_level', 'magnitude_level', 'magnitude_std')
    assert [randaugment[key] for key in levels] == [2, 10, 9, 0.5]
    assert (erasing.erase_prob, erasing.mode) == (0.25, 'rand')
    (crop,) = (s for s in steps(cfg, 'train') if type_name(s) == 'RandomResizedCrop')
    assert crop.get('crop_ratio_range', (0.08, 1.0)) == (0.08, 1.0)  # mmpretrain's default


def test_ema_has_the_decay_of_the_authors():
    (hook,) = load('classification/scopevit-tiny_8xb128-ema_in1k.py').custom_hooks
    assert (hook.type, 1 - hook.momentum) == ('EMAHook', pytest.approx(0.9999, abs=1e-9))


@pytest.mark.parametrize('recipe', [*PRIMITIVES, *MODERN])
def test_docstring_says_what_how_and_how_well(recipe, load_main, monkeypatch):
    text = ast.get_docstring(ast.parse((CONFIGS / recipe).read_text()))
    assert re.match(r'.*ScopeViT-tiny .*\.\n\n', text)
    assert '\n\nSource: ' in text
    assert re.search(r'not (trained|measured) yet|Measured: .*\d', text, re.IGNORECASE)
    (command,) = (shlex.split(line) for line in text.splitlines() if line.startswith('    python'))
    assert command[:2] == ['python', 'tools/train.py']
    train = Mock()
    monkeypatch.setattr('scopevit.commands.train.train', train)
    load_main('train')(command[2:])
    (config,), options = train.call_args
    assert Path(config) == Path('configs', recipe)
    merge_options(load(recipe).copy(), options['cfg_options'] or {})
    if recipe in MODERN:
        assert re.search(r'\bours,\s+not\s+from\s+the\s+paper\b', text)
    if method(recipe) in ('in1k', 'mocov3'):
        assert options['pretrained'] is None
    else:  # from the last checkpoint of the recipe for ImageNet
        classifier = 'classification/scopevit-tiny_8xb128_in1k.py'
        epochs = load(classifier).train_cfg.max_epochs
        checkpoint = f'work_dirs/{stem(classifier)}/epoch_{epochs}.pth'
        assert options['pretrained'] == checkpoint


@pytest.mark.parametrize('recipe', [*OURS, *MODERN])
def test_nothing_is_left_of_what_was_replaced(recipe):
    cfg = load(recipe)
    read = {key: cfg[key] for key in cfg if re.search('model|loader|evaluator|optim_w|hook', key)}
    for path, value in items(read):
        key = path.rpartition('.')[2]
        assert key not in ('_delete_', 'momentum') or re.search('hooks|norm_cfg', path), path
        assert key not in ('pretrained', 'init_cfg') or value is None, path
        assert '://' not in str(value), path
    assert set(cfg.model.backbone) <= {'type', 'arch', 'out_indices', 'drop_path_rate'}
    assert set(cfg.optim_wrapper.optimizer) <= {
        '_scope_', 'type', 'lr', 'betas', 'eps', 'weight_decay'
    }  # fmt: skip
    assert (cfg.get('load_from'), cfg.get('resume', False)) == (None, False)


@pytest.mark.parametrize('recipe', PEERS)
def test_nothing_is_left_of_scopevit_in_a_peer(recipe):
    cfg = load(recipe)
    backbone = cfg.model.get('backbone')
    if backbone is None:  # timm's whole classifier
        assert set(cfg.model) == {
            'type', 'model_name', 'num_classes', 'drop_path_rate', 'loss', 'train_cfg'
        }  # fmt: skip
        return
    kept = {key: value for key, value in cfg.peer_backbone.items() if key != 'out_indices'}
    assert {key: value for key, value in backbone.items() if key != 'out_indices'} == kept
    assert '://' not in str(cfg.model)


@pytest.mark.parametrize('recipe', PEERS)
def test_peer_trains_as_scopevit_does(recipe):
    cfg, tiny = load(recipe), load(primitive(recipe))
    if is_classifier(recipe):
        assert cfg.model.train_cfg == tiny.model.train_cfg
        assert cfg.model.get('loss', cfg.model.get('head', {}).get('loss')) == tiny.model.head.loss
    else:
        for part in ('data_preprocessor', 'rpn_head', 'roi_head', 'decode_head', 'test_cfg'):
            assert cfg.model.get(part) == tiny.model.get(part), part
