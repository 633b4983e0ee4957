"""Bad input to tools/train.py and tools/test.py: one line that names it, exit code 1, no harm."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from marks import rest_is_slow
from strangers import Exploit, serving


@pytest.fixture
def earlier(snapshot):
    """A function that puts results of an earlier run in place, and returns how to check them."""

    def make(work_dir: Path):
        work_dir.mkdir()
        for name in ('metrics.json', 'epoch_1.pth', 'best_epoch_1.pth', 'classification.py'):
            (work_dir / name).write_text(f'an earlier {name}')
        before = snapshot(work_dir)

        def check() -> None:
            assert snapshot(work_dir) == before

        return check

    return make


@pytest.fixture
def refuses(fails, earlier):
    """A function that runs a tool on a task, asserts that it refuses, and returns the line."""

    def run(name: str, task, *arguments: object) -> str:
        check = earlier(task.work_dir)
        line = fails(name, task.config, *arguments, '--work-dir', task.work_dir)
        check()
        return line

    return run


def edit_json(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


# Configs and options


def test_missing_config(fails, tmp_path):
    for arguments in (['train'], ['test', 'weights.pth']):
        line = fails(arguments[0], tmp_path / 'none.py', *arguments[1:])
        assert line == f'error: config not found: {tmp_path / "none.py"}'


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('a = 1\nb = (\n', 'config.py:2: '),
        ('a = 1\n\nb = undefined\n', "config.py:3: NameError: name 'undefined' is not defined"),
        ("_base_ = './none.py'\n", 'none.py'),
        (
            "_base_ = 'mmrotate::_base_/none.py'\n",
            'mmrotate is not installed: pip install mmrotate',
        ),
        ("custom_imports = dict(imports=['no_such'], allow_failed_imports=False)\n", 'no_such'),
        ('model = dict()\n', 'default_scope must be one of mmpretrain, mmdet, mmseg, mmpose'),
        ("default_scope = 'mmocr'\n", "not 'mmocr'"),
        ("default_scope = 'mmdet'\n", 'has no model, train_dataloader, train_cfg, optim_wrapper'),
    ],
)
def test_config_with_errors(text, said, fails, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(text)
    assert said in fails('train', config, '--work-dir', tmp_path / 'work_dir')
    assert not (tmp_path / 'work_dir').exists()


def test_error_in_an_inherited_config(fails, tmp_path):
    (tmp_path / 'parent.py').write_text('a = 1\nb = = 2\n')
    (tmp_path / 'child.py').write_text("_base_ = './parent.py'\n")
    assert f'{tmp_path / "parent.py"}:2: invalid syntax' in fails('train', tmp_path / 'child.py')


@pytest.mark.parametrize(
    ('option', 'said'),
    [
        ('model.backbone.out_indices', "KEY=VALUE pairs, not 'model.backbone.out_indices'"),
        ('.model=1', "KEY=VALUE pairs, not '.model=1'"),
        ('model.backbone.out_indices=(3,', 'brackets do not match'),
        ("model.head.a=[dict(type='A',b=1)]", 'the keys of a dict are set one by one'),
        ('modle.backbone.frozen_stages=1', "has no 'modle'"),
        ('train_cfg.max_epochs.x=1', 'max_epochs'),
        ('model.backbone.no_such=1', "unexpected keyword argument 'no_such'"),
        ('model.backbone.frozen_stages=9', 'frozen_stages must be'),
        ('model.backbone.type=ScopeVitt', 'ScopeVitt is not in the mmpretrain::model registry'),
        ('train_dataloader.batchsize=1', "unexpected keyword argument 'batchsize'"),
        ('train_dataloader.dataset.anns=1', "unexpected keyword argument 'anns'"),
        ('optim_wrapper.optimizer.learning=1', "unexpected keyword argument 'learning'"),
    ],
)
def test_options_that_fit_nowhere(option, said, make_task, refuses):
    line = refuses('train', make_task('classification'), '--cfg-options', option)
    assert said in line


def test_unknown_argument_is_an_error_of_argparse(tool, make_task):
    with pytest.raises(SystemExit) as error:
        tool('train', make_task('classification').config, '--no-such-option')
    assert error.value.code == 2


def test_unknown_backbone_argument_names_key_and_config(make_task, refuses):
    task = make_task('detection')
    task.edit('out_indices=(0, 1, 2, 3)', 'out_indices=(0, 1, 2, 3), drop_path=0.1')
    assert refuses('train', task) == (
        f"error: {task.config}: ScopeViT.__init__() got an unexpected keyword argument 'drop_path'"
    )


def test_image_too_small_for_the_backbone(make_task, refuses):
    task = make_task('classification')
    task.edit('scale=64', 'scale=16')
    assert 'images of at least 32x32 pixels, but got 16x16' in refuses('train', task)


def test_auto_scale_lr_without_batch_size(make_task, refuses):
    task = make_task('classification')
    task.edit('auto_scale_lr = dict(base_batch_size=16)', '')
    assert 'has no auto_scale_lr.base_batch_size' in refuses('train', task, '--auto-scale-lr')


def test_amp_with_another_optim_wrapper(make_task, refuses):
    task = make_task('classification')
    task.edit('optim_wrapper = dict(', "optim_wrapper = dict(type='ApexOptimWrapper', ")
    assert "'ApexOptimWrapper'" in refuses('train', task, '--amp')


def test_launcher_without_its_environment(make_task, refuses, monkeypatch):
    monkeypatch.delenv('RANK', raising=False)
    line = refuses('train', make_task('classification'), '--launcher', 'pytorch')
    assert line == 'error: --launcher pytorch: the environment has no RANK'


def test_work_dir_that_is_a_file(make_task, fails):
    task = make_task('classification')
    task.work_dir.write_text('a file')
    assert str(task.work_dir) in fails('train', task.config, '--work-dir', task.work_dir)
    assert task.work_dir.read_text() == 'a file'


def test_tta_of_masks(make_task, refuses):
    task = make_task('detection')
    line = refuses('test', task, 'none.pth', '--tta')
    assert line == f'error: --tta: DetTTAModel averages boxes only, {task.config} has a mask head'


def test_tta_and_out_of_test(make_task, refuses, save_weights, fails):
    task = make_task('pose')
    checkpoint = save_weights(task)
    line = refuses('test', task, checkpoint, '--tta')
    assert line.startswith(f'error: --tta: mmpose has no model for it, and {task.config} no tta_')
    line = fails('test', task.config, checkpoint, '--out', 'a.txt', '--work-dir', task.work_dir)
    assert line == 'error: --out must end in .pkl or .pickle, not a.txt'


# Images and annotations


@pytest.mark.parametrize(
    ('name', 'annotations'),
    [('classification', 'labels.txt'), ('detection', 'instances.json'), ('pose', 'people.json')],
)
def test_missing_and_broken_annotations(name, annotations, make_task, fails, earlier):
    task = make_task(name)
    check = earlier(task.work_dir)
    path = task.data / annotations
    if path.suffix == '.json':
        text = path.read_text()
        path.write_text(text[: len(text) // 2])
        line = fails('train', task.config, '--work-dir', task.work_dir)
        assert line.startswith(f'error: not JSON: {path} (train_dataloader.dataset.ann_file)')
    path.unlink()
    line = fails('train', task.config, '--work-dir', task.work_dir)
    assert line == f'error: annotation file not found: {path} (train_dataloader.dataset.ann_file)'
    check()


@pytest.mark.parametrize('name', ['classification', 'detection', 'segmentation', 'pose'])
def test_missing_image_folder(name, make_task, refuses):
    task = make_task(name)
    (task.data / 'images').rename(task.data / 'elsewhere')
    assert f'folder not found: {task.data / "images"}' in refuses('train', task)


def test_missing_data_root(make_task, refuses):
    task = make_task('pose')
    task.data.rename(task.data.with_name('elsewhere'))
    assert f'folder not found: {task.data} (train_dataloader.dataset.data_root)' in refuses(
        'train', task
    )


@pytest.mark.parametrize(
    ('name', 'workers'),
    [
        ('classification', 0),
        ('detection', 0),
        ('segmentation', 0),
        ('segmentation', 1),
        ('pose', 0),
    ],
)
def test_unreadable_image(name, workers, make_task, refuses):
    task = make_task(name)
    for path in (task.data / 'images').iterdir():
        path.write_bytes(path.read_bytes()[:200])
    line = refuses('train', task, '--cfg-options', f'train_dataloader.num_workers={workers}')
    assert line.startswith(f'error: cannot load {task.data / "images"}/')


@pytest.mark.parametrize('workers', [0, 1])
def test_images_of_a_batch_that_differ_in_size(workers, make_task, tool, fails):
    task = make_task('classification')
    task.edit("dict(type='Resize', scale=64)", "dict(type='ResizeEdge', scale=64)")
    for path in (task.data / 'images').iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path))[:, : 14 + int(path.stem) % 7])
    options = ['--work-dir', task.work_dir, '--no-validate', '--cfg-options']
    workers = f'train_dataloader.num_workers={workers}'
    line = fails('train', task.config, *options, workers)
    assert 'classification.py: the images of a batch differ in size' in line
    pad = 'train_dataloader.collate_fn.type=pseudo_collate'  # the way out that it names
    code, err = tool('train', task.config, *options, workers, pad)
    assert code == 0, err


def test_missing_image(make_task, refuses, save_weights):
    task = make_task('detection')
    images = sorted((task.data / 'images').iterdir())
    images[1].unlink()
    line = refuses('test', task, save_weights(task))
    assert line.startswith(f'error: cannot load {images[1]}: ')


def test_unreadable_label_map(make_task, refuses):
    task = make_task('segmentation')
    for path in (task.data / 'masks').iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert f'cannot load {task.data / "masks"}/' in refuses('train', task)


@pytest.mark.parametrize('name', ['train', 'test'])
def test_label_map_with_unknown_label(name, make_task, refuses, save_weights):
    task = make_task('segmentation')
    for path in (task.data / 'masks').iterdir():
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        mask[0, 0], mask[1, 1] = 4, 255
        cv2.imwrite(str(path), mask)
    arguments = [save_weights(task)] if name == 'test' else []
    line = refuses(name, task, *arguments)
    assert line.startswith(f'error: label 4 in {task.data / "masks"}/')
    assert '4 classes, labels 0 to 3 and 255 for ignored pixels' in line


def test_label_map_of_another_size(make_task, refuses):
    task = make_task('segmentation')
    for path in (task.data / 'masks').iterdir():
        cv2.imwrite(str(path), np.zeros((100, 120), np.uint8))
    assert 'is 100x120 pixels (height x width), its image 250x250' in refuses('train', task)


def test_classification_label_out_of_range(make_task, refuses):
    task = make_task('classification')
    path = task.data / 'labels.txt'
    lines = path.read_text().splitlines()
    image = lines[2].split()[0]
    lines[2] = f'{image} 3'
    path.write_text('\n'.join(lines))
    line = refuses('train', task)
    assert line == (
        f'error: label [3] of {task.data / "images" / image} is not from 0 to 2: {path} '
        f'(train_dataloader.dataset); `scopevit check {task.config}` tells all'
    )


@pytest.mark.parametrize(
    ('name', 'old', 'head'),
    [
        ('classification', 'num_classes=3', 'head'),
        ('detection', 'fc_out_channels=16,\n            num_classes=3', 'roi_head.bbox_head'),
        ('segmentation', 'num_classes=4', 'decode_head'),
    ],
)
def test_class_count_of_a_head(name, old, head, make_task, refuses, save_weights):
    task = make_task(name)
    classes = int(old[-1])
    task.edit(old, f'{old[:-1]}5')
    said = f'{head}.num_classes is 5'
    line = refuses('train', task)
    assert said in line and f'train_dataloader.dataset has {classes} classes' in line


def test_categories_and_classes(make_task, fails, earlier):
    task = make_task('detection')
    path = task.data / 'instances.json'
    check = earlier(task.work_dir)

    def rename(content: dict) -> None:
        content['categories'][1]['name'] = 'immune'

    edit_json(path, rename)
    line = fails('train', task.config, '--work-dir', task.work_dir)
    assert 'classes without a category: inflammatory' in line
    assert f'{path} has connective, immune, neoplastic' in line
    task.edit("'connective', 'inflammatory', 'neoplastic'", "'connective', 'neoplastic'")
    line = fails('train', task.config, '--work-dir', task.work_dir)
    assert f'categories that are not among the classes: immune: {path}' in line
    check()


def test_categories_may_be_left_out_by_name(make_task, tool):
    task = make_task('detection')
    task.edit("'connective', 'inflammatory', 'neoplastic'", "'connective', 'neoplastic'")
    text = task.config.read_text().replace('num_classes=3', 'num_classes=2')
    text = text.replace(
        'metainfo=dict(classes=classes)',
        "metainfo=dict(classes=classes, ignored_categories=('inflammatory',))",
    )
    task.config.write_text(text)
    code, err = tool('train', task.config, '--work-dir', task.work_dir, '--no-validate')
    assert code == 0, err


def test_forgotten_metainfo_and_forgotten_comma(make_task, fails):
    task = make_task('detection')
    given = '    metainfo=dict(classes=classes),\n'
    task.edit(given, '')
    line = fails('train', task.config, '--work-dir', task.work_dir)
    assert line.startswith('error: train_dataloader.dataset sets no metainfo, so its classes are ')
    assert line.endswith("set metainfo=dict(classes=('connective', 'inflammatory', 'neoplastic'))")
    task.edit("    data_prefix=dict(img='images/'),\n", "    metainfo=dict(classes='Tree'),\n")
    line = fails('train', task.config, '--work-dir', task.work_dir)
    assert line.startswith("error: train_dataloader.dataset.metainfo.classes is the text 'Tree', ")
    assert line.endswith("a tuple of one name has a comma, ('Tree',)")


def test_annotation_of_an_unlisted_category(make_task, refuses):
    task = make_task('detection')
    edit_json(task.data / 'instances.json', lambda c: c['annotations'][0].update(category_id=9))
    assert 'category_id of an annotation is none of categories, {9}' in refuses('train', task)


def test_json_that_is_not_coco(make_task, refuses):
    task = make_task('detection')
    (task.data / 'instances.json').write_text('{"categories": []}')
    assert 'not COCO annotations, no images: ' in refuses('train', task)


def test_pose_metainfo_without_a_name(make_task, refuses):
    task = make_task('pose')
    task.edit("data_mode='topdown',", "data_mode='topdown', metainfo=dict(keypoint_info={}),")
    line = refuses('train', task)
    assert line.startswith('error: train_dataloader.dataset.metainfo has no dataset_name, ')


UNLABELLED = {
    'no labels': 'the samples have no gt_label, which Accuracy compares with',
    'names alone': 'labels.txt: each line must have the name of an image and the number of its',
    'a folder': 'a data set finds no images: those of a class are in a folder of its own',
}


@pytest.mark.parametrize('kind', rest_is_slow(UNLABELLED))
def test_unlabelled_images_to_classify(kind, make_task, refuses, save_weights):
    task = make_task('classification')
    weights = save_weights(task)
    if kind == 'no labels':
        task.edit("ann_file='labels.txt'", 'with_label=False')
    elif kind == 'names alone':
        path = task.data / 'labels.txt'
        path.write_text(''.join(f'{line.split()[0]}\n' for line in path.read_text().splitlines()))
    else:
        task.edit("    ann_file='labels.txt',\n", '')
        task.edit("    metainfo=dict(classes=('t-shirt', 'trouser', 'pullover')),\n", '')
    line = refuses('test', task, weights)
    assert UNLABELLED[kind] in line


@pytest.mark.parametrize(('loads', 'workers'), rest_is_slow([(True, 0), (True, 1), (False, 0)]))
def test_unlabelled_images_to_segment(loads, workers, make_task, refuses, save_weights):
    task = make_task('segmentation')
    weights = save_weights(task)
    task.edit(", seg_map_path='masks')", ')')
    said = " comes without 'seg_map_path', which LoadAnnotations reads: "
    if not loads:
        text = task.config.read_text()
        task.config.write_text(text.replace("            dict(type='LoadAnnotations'),\n", ''))
        said = 'the samples have no gt_sem_seg, which IoUMetric compares with: images without'
    options = ['--cfg-options', f'test_dataloader.num_workers={workers}']
    assert said in refuses('test', task, weights, *options)


def test_data_set_without_samples(make_task, refuses):
    task = make_task('pose')
    edit_json(task.data / 'people.json', lambda c: c.update(annotations=[]))
    line = refuses('train', task)
    assert f'{task.data / "people.json"}: no image has an annotation: there is nothing to' in line


@pytest.mark.parametrize('name', ['train', 'test'])
def test_nothing_to_compare_detections_with(name, make_task, refuses, save_weights):
    task = make_task('detection')
    unlabelled = task.data / 'unlabelled.json'
    unlabelled.write_bytes((task.data / 'instances.json').read_bytes())
    edit_json(unlabelled, lambda content: content.pop('annotations'))
    checkpoint = [save_weights(task)] if name == 'test' else []
    mode = 'val' if name == 'train' else 'test'
    options = ['--cfg-options', f'{mode}_evaluator.ann_file={unlabelled}']
    line = refuses(name, task, *checkpoint, *options)
    assert f'{unlabelled} has no annotations ({mode}_evaluator.ann_file), so there is' in line


def test_detections_may_be_written_alone(make_task, save_weights, tool):
    task = make_task('detection')
    edit_json(task.data / 'instances.json', lambda content: content.pop('annotations'))
    written = task.data / 'found'
    code, err = tool(
        'test', task.config, save_weights(task), '--work-dir', task.work_dir, '--cfg-options',
        'test_evaluator.format_only=True', f'test_evaluator.outfile_prefix={written}',
    )  # fmt: skip
    assert code == 0, err
    assert written.with_suffix('.bbox.json').is_file()


def test_batch_larger_than_the_data_set(make_task, refuses):
    options = ['train_dataloader.batch_size=9', 'train_dataloader.drop_last=True']
    line = refuses('train', make_task('classification'), '--cfg-options', *options)
    assert 'train_dataloader has no batches: 8 samples' in line


def test_keypoints(make_task, fails, earlier):
    task = make_task('pose')
    check = earlier(task.work_dir)
    arguments = ['train', task.config, '--work-dir', task.work_dir]
    line = fails(*arguments, '--cfg-options', 'model.head.out_channels=14')
    assert 'has 17 keypoints a person, but head.out_channels is 14' in line
    path = task.data / 'people.json'

    def cut(annotation: dict) -> None:
        annotation['keypoints'] = annotation['keypoints'][:42]

    edit_json(path, lambda c: cut(c['annotations'][0]))
    assert f'not [42, 51]: {path}' in fails(*arguments)
    edit_json(path, lambda c: [cut(annotation) for annotation in c['annotations']])
    assert f'14 keypoints a person in {path}' in fails(*arguments)
    check()


# Checkpoints


def write_bad_checkpoint(kind: str, path: Path, good: Path) -> str:
    """Writes a bad checkpoint and returns what has to be said about it."""
    if kind == 'missing':
        return f'checkpoint not found: {path}'
    if kind == 'truncated':
        data = good.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        return f'damaged one: {path}'
    if kind == 'text':
        path.write_text('not a checkpoint')
        return f'not a checkpoint of torch.save, or a damaged one: {path}'
    if kind == 'code':
        torch.save({'state_dict': {}, 'meta': Exploit(path.with_name('executed'))}, path)
        return f'it holds objects that could run code: {path}'
    if kind == 'no weights':
        torch.save({'model': torch.load(good, weights_only=True)['state_dict']}, path)
        return f'no weights in {path}: expected tensors by name, bare or under state_dict'
    raise AssertionError(kind)


DEEPER = "\nmodel['backbone']['arch']['depths'] = (1, 2, 2, 1)\n"


def training_state(weights: Path) -> dict:
    """Returns a checkpoint as of a training."""
    checkpoint = torch.load(weights, weights_only=True)
    return {**checkpoint, 'meta': {'epoch': 1, 'iter': 2}, 'message_hub': {}, 'optimizer': {}}


def everywhere(fails, task, checkpoint: str | Path) -> list[str]:
    """Gives a checkpoint in every way there is; returns the lines that refuse it."""
    work_dir = ['--work-dir', task.work_dir]
    init_cfg = 'model.backbone.init_cfg'
    return [
        fails('test', task.config, checkpoint, *work_dir),
        fails('train', task.config, *work_dir, '--resume', checkpoint),
        fails('train', task.config, *work_dir, '--cfg-options', f'load_from={checkpoint}'),
        fails(
            'train', task.config, *work_dir, '--cfg-options', f'{init_cfg}.type=Pretrained',
            f'{init_cfg}.checkpoint={checkpoint}', f'{init_cfg}.prefix=backbone.',
        ),
    ]  # fmt: skip


@pytest.mark.parametrize('kind', ['missing', 'truncated', 'text', 'code', 'no weights'])
def test_bad_checkpoint(kind, make_task, fails, earlier, save_weights, tmp_path):
    task = make_task('classification')
    check = earlier(task.work_dir)
    path = tmp_path / 'bad.pth'
    said = write_bad_checkpoint(kind, path, save_weights(task))
    tested, resumed, *lines = everywhere(fails, task, path)
    assert all(said in line for line in (tested, *lines)), lines
    # What is no checkpoint of a training cannot be resumed from, wherever its weights are.
    assert said in resumed or (kind == 'no weights' and f'cannot resume from {path}' in resumed)
    assert not (tmp_path / 'executed').exists()
    check()


def test_a_download_runs_nothing(make_task, fails, earlier, save_weights, tmp_path):
    task = make_task('classification')
    check = earlier(task.work_dir)
    content = training_state(save_weights(task)) | {'optimizer': Exploit(tmp_path / 'executed')}
    with serving(tmp_path) as server:
        torch.save(content, server.files / 'a.pth')
        for line in everywhere(fails, task, f'{server.url}a.pth'):
            assert 'checkpoint refused, it holds objects that could run code: ' in line
        assert server.asked == ['/a.pth']  # once, then it is there
    assert not (tmp_path / 'executed').exists()
    check()


def test_a_download_is_checked_as_a_file_is(make_task, fails, earlier, save_weights, tmp_path):
    task = make_task('classification')
    check = earlier(task.work_dir)
    with serving(tmp_path) as server:
        torch.save(training_state(save_weights(task)), server.files / 'a.pth')
        task.config.write_text(task.config.read_text() + DEEPER)
        for line in everywhere(fails, task, f'{server.url}a.pth'):
            assert f'{server.url}a.pth does not fit' in line
            assert ' missing: ' in line and 'stages.1.blocks.1.' in line
        for line in everywhere(fails, task, f'{server.url}nope.pth'):
            said = f'cannot download {server.url}nope.pth: HTTP Error 404: File not found'
            assert line == f'error: {said}'
    for line in everywhere(fails, task, 's3://bucket/a.pth'):
        said = 'cannot read s3://bucket/a.pth: give a file or an address that begins with https://'
        assert line == f'error: {said}'
    check()


def test_weights_of_another_size(make_task, fails, earlier, save_weights, tmp_path):
    task = make_task('classification')
    check = earlier(task.work_dir)
    path = tmp_path / 'training.pth'
    torch.save(training_state(save_weights(task)), path)
    # One more block than the weights have, and another width of a convolution.
    task.config.write_text(task.config.read_text() + DEEPER)
    for line in everywhere(fails, task, path):
        assert f'{path} does not fit' in line
        assert ' missing: ' in line and 'stages.1.blocks.1.' in line
    check()


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        (lambda w: w.pop('head.fc.bias'), '1 missing: head.fc.bias'),
        (lambda w: w.update(extra=torch.ones(1)), '1 unexpected: extra'),
        (
            lambda w: w.update({'head.fc.bias': torch.ones(7)}),
            '1 of another shape: head.fc.bias (7,) instead of (3,)',
        ),
    ],
)
def test_each_difference_is_named(change, said, make_task, refuses, save_weights):
    task = make_task('classification')
    assert said in refuses('test', task, save_weights(task, change))


def test_prefix_that_no_weight_has(make_task, refuses, save_weights):
    task = make_task('classification')
    init_cfg = 'model.backbone.init_cfg'
    line = refuses(
        'train', task, '--cfg-options', f'{init_cfg}.type=Pretrained',
        f'{init_cfg}.checkpoint={save_weights(task)}', f'{init_cfg}.prefix=encoder.',
    )  # fmt: skip
    assert "no weights start with 'encoder.'" in line and 'init_cfg of backbone' in line


def test_resume_from_weights_only(make_task, refuses, save_weights):
    task = make_task('classification')
    line = refuses('train', task, '--resume', save_weights(task))
    assert 'cannot resume from' in line and 'to start from its weights, set load_from' in line


@pytest.mark.parametrize('kind', ['missing', 'truncated', 'text', 'code'])
def test_bad_pretrained_file(kind, make_task, refuses, save_weights, tmp_path):
    task = make_task('classification')
    path = tmp_path / 'bad.pth'
    said = write_bad_checkpoint(kind, path, save_weights(task))
    assert said in refuses('train', task, '--pretrained', path)
    assert not (tmp_path / 'executed').exists()


def test_pretrained_weights_that_do_not_fit(make_task, fails, earlier, save_weights, tmp_path):
    task = make_task('detection')
    check = earlier(task.work_dir)
    arguments = ['train', task.config, '--work-dir', task.work_dir, '--pretrained']
    path = save_weights(make_task('classification'))
    weights = torch.load(path, weights_only=True)['state_dict']

    def refused(**changed: torch.Tensor) -> str:
        torch.save({k: v for k, v in (weights | changed).items() if v is not None}, path)
        return fails(*arguments, path)

    name = 'stages.0.patch_embed.0.weight'
    line = refused(**{f'backbone.{name}': None})
    assert line == f'error: {path} does not fit backbone; 1 missing: {name}'
    line = refused(**{f'backbone.{name}': torch.ones(3)})
    assert f'{path} does not fit backbone; 1 of another shape: {name} (3,) instead of (' in line
    task.config.write_text(task.config.read_text() + DEEPER)
    line = refused()
    assert f'{path} does not fit backbone; ' in line and 'stages.1.blocks.1.' in line
    torch.save({'patch_embed1.projection.0.weight': torch.ones(1)}, path)
    line = fails(*arguments, path)
    assert line.startswith(f"error: {path}: not one of the authors' sizes (nearest: ")
    torch.save({'meta': {}}, path)
    line = fails(*arguments, path)
    assert line.startswith(f'error: no weights in {path}: expected tensors by name')
    check()


def test_two_starts(make_task, refuses, save_weights):
    task = make_task('classification')
    path = save_weights(task)
    line = refuses('train', task, '--pretrained', path, '--resume', path)
    assert line == f'error: --pretrained {path} and --resume {path}: give one of them'


def test_pretrained_and_load_from(make_task, refuses, save_weights):
    task = make_task('classification')
    path = save_weights(task)
    line = refuses('train', task, '--pretrained', path, '--cfg-options', f'load_from={path}')
    assert line == f'error: --pretrained {path} and load_from {path}: give one of them'


def test_pretrained_without_a_backbone(make_task, refuses):
    task = make_task('classification')
    task.config.write_text(task.config.read_text() + "\nmodel = dict(type='M', net=model)\n")
    line = refuses('train', task, '--pretrained', 'a.pth')
    assert line == f'error: --pretrained: {task.config} has no model.backbone'


def test_auto_resume_without_a_whole_checkpoint(make_task, fails, save_weights, snapshot):
    task = make_task('classification')
    task.work_dir.mkdir()
    damaged = task.work_dir / 'epoch_2.pth'
    damaged.write_bytes(save_weights(task).read_bytes()[:1000])
    (task.work_dir / 'last_checkpoint').write_text('epoch_3.pth')
    before = snapshot(task.work_dir)
    line = fails('train', task.config, '--work-dir', task.work_dir, '--resume')
    missing = task.work_dir / 'epoch_3.pth'
    assert line == (
        f'error: checkpoint not found: {missing}; not a checkpoint of torch.save, or a damaged '
        f'one: {damaged}; to start anew, give another --work-dir'
    )
    assert snapshot(task.work_dir) == before


# As processes


def test_process_prints_one_line(make_task, process, save_weights):
    task = make_task('segmentation')
    result = process('tools/test.py', task.config, task.data / 'none.pth')
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith('error: ')]
    assert lines == [f'error: checkpoint not found: {task.data / "none.pth"}']
    assert 'Traceback' not in result.stderr


def test_debug_shows_the_traceback(make_task, process):
    task = make_task('detection')
    task.edit('out_indices=(0, 1, 2, 3)', 'out_indices=(0, 1, 2, 3), drop_path=0.1')
    arguments = ['tools/train.py', task.config, '--work-dir', task.work_dir]
    result = process(*arguments, SCOPEVIT_DEBUG='1')
    assert result.returncode == 1
    assert 'Traceback' in result.stderr and 'build_from_cfg' in result.stderr
