"""Prediction by a checkpoint alone, against what the libraries' own test of it predicts."""

import json
import pickle
import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from pycocotools import mask as coco_mask
from torch import nn

import scopevit
from scopevit.checkpoint import read_checkpoint
from scopevit.errors import InputError
from scopevit.publish import publish_checkpoint


def expected(trained, tool, tmp_path, name: str) -> list[dict]:
    """What the library's test loop predicts, an entry an image or, for poses, a person."""
    made, out = trained(name), tmp_path / 'predictions.pkl'
    code, err = tool(
        'test', made.config, made.checkpoint, '--out', out, '--work-dir', tmp_path / 'work_dir',
    )  # fmt: skip
    assert code == 0, err
    return pickle.loads(out.read_bytes())


@pytest.mark.parametrize('batch_size', [None, 3])
def test_classification(batch_size, trained, tool, tmp_path):
    made = trained('classification')
    reference = expected(trained, tool, tmp_path, 'classification')
    predictor = scopevit.Predictor(made.checkpoint, batch_size=batch_size)
    names = [line.split()[0] for line in (made.data / 'labels.txt').read_text().splitlines()]
    results = predictor([str(made.images / name) for name in names])
    assert predictor.task == 'classification'
    assert [result.name for result in results] == names
    for result, one in zip(results, reference, strict=True):
        scores = one['pred_score'].numpy()
        order = np.argsort(-scores, kind='stable')
        assert result.classes.tolist() == order.tolist()
        assert result.scores == pytest.approx(scores[order], abs=1e-6)
        assert result.image is None
        assert result.size == (28, 28)
    assert results[0].labels.classes == ('t-shirt', 'trouser', 'pullover')


@pytest.mark.parametrize('batch_size', [1, 3])
def test_detection(batch_size, trained, tool, tmp_path):
    made = trained('detection')
    reference = expected(trained, tool, tmp_path, 'detection')
    results = scopevit.Predictor(made.checkpoint, batch_size=batch_size, min_score=0)(made.images)
    for result, one in zip(results, reference, strict=True):
        assert result.source.endswith(one['img_path'].rpartition('/')[2])
        found = one['pred_instances']
        assert len(result.boxes) == len(found['scores']) > 0
        assert result.boxes == pytest.approx(found['bboxes'].numpy(), abs=1e-3)
        assert result.scores == pytest.approx(found['scores'].numpy(), abs=1e-5)
        assert result.classes.tolist() == found['labels'].tolist()
        masks = np.array([coco_mask.decode(rle) for rle in found['masks']])
        assert result.masks.shape == (len(masks), *result.size)
        assert (result.masks != masks).mean() < 1e-3


def test_least_score(trained):
    made = trained('detection')
    scores = scopevit.Predictor(made.checkpoint, min_score=0)(made.images)[0].scores
    least = float(np.median(scores))
    kept = scopevit.Predictor(made.checkpoint, min_score=least)(made.images)[0].scores
    assert kept.tolist() == scores[scores >= np.float32(least)].tolist()


def test_segmentation(trained, tool, tmp_path):
    made = trained('segmentation')
    reference = expected(trained, tool, tmp_path, 'segmentation')
    results = scopevit.Predictor(made.checkpoint, batch_size=3)(made.images)
    for result, one in zip(results, reference, strict=True):
        data = one['pred_sem_seg']['data'].numpy()[0]
        assert result.class_map.shape == result.size == data.shape
        assert (result.class_map != data).mean() < 1e-3
        assert sum(result.shares.values()) == pytest.approx(1)


def test_pose_by_boxes(trained, tool, tmp_path):
    made = trained('pose')
    reference = expected(trained, tool, tmp_path, 'pose')
    people = json.loads((made.data / 'people.json').read_text())
    names = {image['id']: image['file_name'] for image in people['images']}
    boxes: dict[str, list] = {}
    for one in people['annotations']:
        x, y, w, h = one['bbox']
        boxes.setdefault(names[one['image_id']], []).append([x, y, x + w, y + h])
    results = scopevit.Predictor(made.checkpoint, batch_size=3)(made.images, boxes=boxes)
    keypoints = np.concatenate([result.keypoints for result in results])
    scores = np.concatenate([result.keypoint_scores for result in results])
    assert len(keypoints) == len(reference) > len(results)
    wanted = np.concatenate([one['pred_instances']['keypoints'] for one in reference])
    wanted_scores = np.concatenate([one['pred_instances']['keypoint_scores'] for one in reference])
    # The library's data set cuts boxes at the border, at the last pixel.
    assert np.abs(keypoints - wanted).max() < 2
    assert scores == pytest.approx(wanted_scores, abs=1e-3)
    assert results[0].labels.keypoints[:2] == ('nose', 'left_eye')


def test_pose_of_the_whole_image_of_none_and_by_a_detector(trained):
    made, image = trained('pose'), np.zeros((40, 50, 3), np.uint8)
    predictor = scopevit.Predictor(made.checkpoint)
    whole = predictor(image)[0]
    assert whole.boxes.tolist() == [[0, 0, 50, 40]]
    assert predictor(image, boxes=[[0, 0, 50, 40]])[0].keypoints.tolist() == (
        whole.keypoints.tolist()
    )
    assert predictor(image, boxes={})[0].keypoints.shape == (0, 17, 2)
    detector = scopevit.Predictor(trained('detection').checkpoint, min_score=0)
    photos = made.images
    boxes = {result.name: result.boxes for result in detector(photos)}
    found = scopevit.Predictor(made.checkpoint, detector=detector)(photos)
    assert found[0].keypoints == pytest.approx(predictor(photos, boxes=boxes)[0].keypoints)
    assert found[0].box_scores == pytest.approx(detector(photos)[0].scores)


def test_gray_and_colour_for_one_channel_and_three(trained, tmp_path):
    made = trained('classification')
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 255, (30, 20, 3), np.uint8)
    gray = cv2.cvtColor(colour, cv2.COLOR_BGR2GRAY)
    checkpoint = torch.load(made.checkpoint, weights_only=True)
    first = next(k for k, v in checkpoint['state_dict'].items() if v.shape[1:2] == (3,))
    checkpoint['state_dict'][first] = checkpoint['state_dict'][first].sum(1, keepdim=True)
    cfg = checkpoint['meta']['cfg'].replace("type='ScopeViT'", "in_channels=1, type='ScopeViT'")
    cfg = cfg.replace('58.395,\n            57.12,\n            57.375', '50.0')
    cfg = cfg.replace('123.675,\n            116.28,\n            103.53', '100.0')
    cfg = cfg.replace("dict(type='LoadImageFromFile'),", '')  # as data sets of arrays have it
    checkpoint['meta']['cfg'] = cfg
    torch.save(checkpoint, tmp_path / 'one.pth')
    three, one = scopevit.Predictor(made.checkpoint), scopevit.Predictor(tmp_path / 'one.pth')
    for predictor, same in ((three, cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)), (one, colour)):
        results = predictor([gray, same])
        assert results[0].scores.tolist() == results[1].scores.tolist()
    for i, pixels in enumerate((gray, colour)):
        cv2.imwrite(str(tmp_path / f'{i}.png'), pixels)
    for predictor in (three, one):
        by_file, by_array = predictor(tmp_path), predictor([gray, colour])
        for a, b in zip(by_file, by_array, strict=True):
            # Decoders round in another way than OpenCV's conversion of colours to gray.
            assert a.scores == pytest.approx(b.scores, abs=0.005)


def test_order_and_number_of_images_held(trained):
    """Sizes alternate at random: batches have one size, results keep their order."""
    made, taken = trained('segmentation'), 0
    sizes = np.random.default_rng(0).integers(20, 24, 200)
    predictor = scopevit.Predictor(made.checkpoint, batch_size=2)

    def images():
        nonlocal taken
        for size in sizes:
            taken += 1
            yield np.zeros((size, 20, 3), np.uint8)

    for number, result in enumerate(predictor.stream(images())):
        assert result.size == (sizes[number], 20)
        assert taken - number < 30
    assert number == 199


def test_a_stream_left_early_ends_its_threads(trained):
    before = threading.active_count()
    stream = scopevit.Predictor(trained('classification').checkpoint).stream(
        np.zeros((20, 20, 3), np.uint8) for _ in iter(int, 1)
    )
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_a_config_that_is_named_or_beside_comes_first(trained, tmp_path):
    made = trained('classification')
    checkpoint = torch.load(made.checkpoint, weights_only=True)
    stored, checkpoint['meta']['cfg'] = checkpoint['meta']['cfg'], 'import os'
    path = tmp_path / 'mine.pth'
    torch.save(checkpoint, path)
    with pytest.raises(InputError, match=r'mine\.pth: line 1: `import os` is code'):
        scopevit.Predictor(path)
    scopevit.Predictor(path, config=made.config)
    path.with_suffix('.py').write_text(stored)
    scopevit.Predictor(path)
    path.with_suffix('.py').write_text('import os\n')
    with pytest.raises(InputError, match=r'mine\.py: line 1: `import os` is code'):
        scopevit.Predictor(path)


@pytest.mark.parametrize(
    ('meta', 'message'),
    [
        ({}, r'x\.pth has no config in it \(meta\.cfg\)'),
        (
            {'cfg': "model = dict(type='ResNet')"},
            'default_scope must be one of mmpretrain, .* None',
        ),
        ({'cfg': "default_scope = 'mmagic'"}, "must be one of .*, not 'mmagic'"),
        ({'cfg': "default_scope = 'mmdet'"}, 'has no model'),
        ({'cfg': "default_scope = 'mmdet'\nmodel = dict(type='MaskRCNN')"}, 'has no test_dataload'),
    ],
)
def test_checkpoints_without_a_config_of_ours(meta, message, tmp_path):
    path = tmp_path / 'x.pth'
    torch.save({'meta': meta, 'state_dict': {'a': torch.zeros(1)}}, path)
    with pytest.raises(InputError, match=message):
        scopevit.Predictor(path)


def test_arguments_that_do_not_fit(trained):
    poses, objects = (trained(name).checkpoint for name in ('pose', 'detection'))
    with pytest.raises(InputError, match='no device'):
        scopevit.Predictor(objects, device='cuda:99')
    with pytest.raises(InputError, match='for top-down poses alone'):
        scopevit.Predictor(objects, detector=objects)
    with pytest.raises(InputError, match='a checkpoint of pose, not of detection'):
        scopevit.Predictor(poses, detector=poses)
    with pytest.raises(InputError, match='boxes are for top-down poses'):
        scopevit.Predictor(objects).stream(np.zeros((20, 20, 3), np.uint8), boxes=[[0, 0, 1, 1]])
    with pytest.raises(InputError, match='left, top, right and bottom'):
        scopevit.Predictor(poses)(np.zeros((20, 20, 3), np.uint8), boxes=[[0, 0, 1]])


def test_half_precision_is_near(trained):
    made = trained('classification')
    whole, half = (scopevit.Predictor(made.checkpoint, half=half)(made.images) for half in (0, 1))
    assert whole[0].scores == pytest.approx(half[0].scores, abs=0.02)
    assert whole[0].scores.tolist() != half[0].scores.tolist()


@pytest.mark.slow
def test_compiled_is_the_same(trained, monkeypatch):
    made, compile_module, compiled = trained('classification'), nn.Module.compile, []

    def compile_in_seconds(module: nn.Module) -> None:
        compiled.append(type(module).__name__)
        compile_module(module, backend='eager')

    monkeypatch.setattr(nn.Module, 'compile', compile_in_seconds)
    plain, other = (
        scopevit.Predictor(made.checkpoint, compile=on)(made.images) for on in (False, True)
    )
    assert compiled == ['ScopeViT']
    assert plain[0].scores == pytest.approx(other[0].scores, abs=1e-5)


def test_compiling_without_a_compiler(trained, monkeypatch):
    monkeypatch.setattr('torch._inductor.config.cpp.cxx', (None, 'no-such-compiler'))
    with pytest.raises(InputError, match=r'^--compile needs a C\+\+ compiler, .* CXX$'):
        scopevit.Predictor(trained('classification').checkpoint, compile=True)


@pytest.mark.parametrize('name', ['classification', 'detection', 'segmentation', 'pose'])
def test_a_published_checkpoint_is_enough(name, trained, tmp_path):
    made = trained(name)
    path = publish_checkpoint(made.checkpoint, tmp_path / name)
    published, whole = scopevit.Predictor(path), scopevit.Predictor(made.checkpoint)
    assert published.labels == whole.labels
    assert published.batch_size == whole.batch_size
    image = sorted(made.images.iterdir())[0]
    (one,), (other,) = published(image), whole(image)
    assert one.to_dict() == other.to_dict()


def without_meta(made, path, old: str = '', new: str = ''):
    """Writes a checkpoint that says nothing of its classes, with a line of its config changed."""
    content = read_checkpoint(made.checkpoint)
    text = content['meta']['cfg']
    assert text.count(old) >= 1
    torch.save(content | {'meta': {'cfg': text.replace(old, new)}}, path)
    return path


def test_keypoints_without_dataset_meta_are_those_of_the_type(trained, tmp_path):
    made = trained('pose')
    image = sorted(made.images.iterdir())[0]
    whole = scopevit.Predictor(made.checkpoint)
    bare = scopevit.Predictor(without_meta(made, tmp_path / 'a.pth'))
    assert bare.labels == replace(whole.labels, classes=())  # those are from the annotations
    assert bare.labels.keypoints[:2] == ('nose', 'left_eye')
    assert bare(image)[0].to_dict() == whole(image)[0].to_dict()


@pytest.mark.parametrize(
    ('new', 'message'),
    [
        ("type='Mine'", r'the checkpoint has no dataset_meta, .* type of the data set'),
        (
            "type='CocoDataset', metainfo=dict(from_file='x.py')",
            r'it from x\.py, a file that is run',
        ),
        ("type='CocoDataset', metainfo=dict(keypoint_info=3)", r'nor have metainfo or type'),
    ],
)
def test_unknown_keypoints(new, message, trained, tmp_path):
    path = without_meta(trained('pose'), tmp_path / 'a.pth', "type='CocoDataset'", new)
    with pytest.raises(InputError, match=message):
        scopevit.Predictor(path)


def test_classes_without_dataset_meta_are_those_of_the_config_or_the_type(trained, tmp_path):
    names = scopevit.Predictor(without_meta(trained('detection'), tmp_path / 'a.pth')).labels
    assert names.classes == scopevit.Predictor(trained('detection').checkpoint).labels.classes
    content = read_checkpoint(trained('detection').checkpoint)
    text = content['meta']['cfg'].replace('metainfo=', 'unused=')
    torch.save(content | {'meta': {'cfg': text}}, tmp_path / 'b.pth')
    classes = scopevit.Predictor(tmp_path / 'b.pth').labels.classes
    assert (len(classes), classes[0], classes[-1]) == (80, 'person', 'toothbrush')  # COCO's


def test_the_checkpoints_order_of_classes_comes_before_that_of_its_config(trained, tmp_path):
    content = read_checkpoint(trained('classification').checkpoint)
    content['meta']['dataset_meta'] = {'classes': ('pullover', 't-shirt', 'trouser')}
    torch.save(content, tmp_path / 'a.pth')
    labels = scopevit.Predictor(tmp_path / 'a.pth').labels
    assert labels.classes == ('pullover', 't-shirt', 'trouser')


@pytest.mark.parametrize(
    'option', ["color_type='colour'", 'color_type=[1]', "imdecode_backend='cv3'"]
)
def test_unknown_ways_to_load_images(option, trained, tmp_path):
    loader = "type='LoadImageFromFile'"
    path = without_meta(trained('detection'), tmp_path / 'a.pth', loader, f'{loader}, {option}')
    value = option.partition('=')[2]
    with pytest.raises(InputError, match='the test pipeline loads images by ') as raised:
        scopevit.Predictor(path)
    assert value in str(raised.value)


def test_a_pipeline_that_is_no_list(trained, tmp_path):
    content = read_checkpoint(trained('detection').checkpoint)
    text = content['meta']['cfg'] + '\ntest_dataloader = dict(dataset=dict(pipeline=3))\n'
    torch.save(content | {'meta': {'cfg': text}}, tmp_path / 'a.pth')
    with pytest.raises(InputError, match='test_dataloader.dataset.pipeline must be a list, not 3'):
        scopevit.Predictor(tmp_path / 'a.pth')


@pytest.mark.parametrize(
    ('description', 'message'),
    [
        (5, 'meta.dataset_meta must be a dict, not 5'),
        ({'classes': 5}, 'classes of its data set must be a list of names, not 5'),
        ({'classes': 'cat'}, "classes of its data set must be a list of names, not 'cat'"),
        ({'classes': [{}]}, r'classes of its data set must be a list of names, not \[{}\]'),
        ({'classes': ['a'], 'palette': [5]}, r'palette .* a list of colours, not \[5\]'),
        ({'classes': ['a'], 'keypoint_id2name': 5}, 'a dict of names by number, not 5'),
        ({'classes': ['a'], 'skeleton_links': [1]}, r'a list of pairs of numbers, not \[1\]'),
    ],
)
def test_a_spoilt_description_of_the_data(description, message, trained, tmp_path):
    content = read_checkpoint(trained('detection').checkpoint)
    meta = content['meta'] | {'dataset_meta': description}
    torch.save(content | {'meta': meta}, tmp_path / 'a.pth')
    with pytest.raises(InputError, match=rf'^\S*a\.pth: .*{message}$'):
        scopevit.Predictor(tmp_path / 'a.pth')


def test_a_checkpoint_by_its_address(trained, monkeypatch):
    asked = []

    def download(address):
        asked.append(address)
        return trained('pose').checkpoint

    monkeypatch.setattr('scopevit.checkpoint.download', download)
    assert scopevit.Predictor('https://example.org/a.pth', 'cpu').task == 'pose'
    assert asked == ['https://example.org/a.pth']


def test_names_of_fewer_keypoints(trained, tmp_path):
    made = trained('pose')
    content = read_checkpoint(made.checkpoint)
    known = content['meta']['dataset_meta']
    first = {0: known['keypoint_id2name'][0]}
    meta = content['meta'] | {'dataset_meta': known | {'keypoint_id2name': first}}
    torch.save(content | {'meta': meta}, tmp_path / 'a.pth')
    count = len(known['keypoint_id2name'])
    with pytest.raises(
        InputError, match=f'predicts {count} keypoints, and .* of its data set has 1'
    ):
        scopevit.Predictor(tmp_path / 'a.pth', 'cpu')(str(made.images))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(model=dict(test_cfg=5)), 'model.test_cfg must be a dict, not 5'),
        (
            dict(model=dict(test_cfg=dict(_delete_=True, rpn=dict()))),
            'a part of the config has no rcnn',
        ),
        (dict(model=dict(data_preprocessor=None)), 'has no model.data_preprocessor'),
        (dict(test_dataloader=dict(batch_size='x')), "must be a number, not 'x'"),
    ],
)
def test_a_spoilt_config(change, message, trained, tmp_path):
    content = read_checkpoint(trained('detection').checkpoint)
    cfg = Config.fromstring(content['meta']['cfg'], '.py')
    cfg.merge_from_dict(change)
    torch.save(content | {'meta': {'cfg': cfg.pretty_text}}, tmp_path / 'a.pth')
    with pytest.raises(InputError, match=message):
        scopevit.Predictor(tmp_path / 'a.pth')


def test_means_of_other_channels(trained, tmp_path):
    content = read_checkpoint(trained('classification').checkpoint)
    cfg = Config.fromstring(content['meta']['cfg'], '.py')
    cfg.model.data_preprocessor.mean = [1.0] * 4
    torch.save(content | {'meta': {'cfg': cfg.pretty_text}}, tmp_path / 'a.pth')
    with pytest.raises(InputError, match='mean has 4 values, and the network takes 3 channels'):
        scopevit.Predictor(tmp_path / 'a.pth', 'cpu')
