"""Prediction in tiles, against what is worked out of the tiles by hand."""

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

import scopevit
from scopevit.errors import InputError
from scopevit.inference import images
from scopevit.inference.results import DetectionResult, Labels
from scopevit.inference.tiles import tiles_of

GENERATOR = np.random.default_rng(0)


def photo(trained, name, height, width):
    path = next(trained(name).images.iterdir())
    return cv2.resize(cv2.imread(str(path)), (width, height))


@pytest.mark.parametrize('task', ['detection', 'segmentation'])
def test_smaller_images_are_as_without(task, trained):
    made = trained(task)
    plain = scopevit.Predictor(made.checkpoint, min_score=0)(made.images)
    tiled = scopevit.Predictor(made.checkpoint, min_score=0, tile=2048)(made.images)
    assert [r.to_dict() for r in tiled] == [r.to_dict() for r in plain]


def test_segmentation_of_a_large_image(trained):
    made, image = trained('segmentation'), photo(trained, 'segmentation', 200, 300)
    result = scopevit.Predictor(made.checkpoint, tile=128)(image)[0]
    total = 0
    predictor = scopevit.Predictor(made.checkpoint)
    for tile in tiles_of(200, 300, 128):
        part = np.ascontiguousarray(tile.cut(image))
        logits = logits_of(predictor, part)
        share = 1 - np.abs(np.arange(128) - 63.5) / 64  # 1 in the middle, 0 at the ends
        share = np.minimum(2 * share, 1)  # ... 1 in the middle half
        whole = np.zeros((len(logits), 200, 300))
        whole[:, tile.top : tile.bottom, tile.left : tile.right] = logits * np.outer(share, share)
        total += whole
    expected = total.argmax(0)
    assert result.size == result.class_map.shape == (200, 300)
    assert (result.class_map != expected).mean() < 1e-3
    assert len(np.unique(expected)) > 1


def logits_of(predictor, pixels):
    """The logits of an image by the library's own pipeline and network."""
    found = []
    forward = predictor._forward
    predictor._forward = lambda inputs: found.extend(forward(inputs)) or found
    predictor(pixels)
    predictor._forward = forward
    return found[0].seg_logits.data.numpy()


def test_detection_of_a_large_image(trained):
    made, image = trained('detection'), photo(trained, 'detection', 200, 300)
    result = scopevit.Predictor(made.checkpoint, min_score=0.05, tile=160)(image)[0]
    predictor = scopevit.Predictor(made.checkpoint, min_score=0.05)
    boxes = []
    for tile in tiles_of(200, 300, 160):
        one = predictor(np.ascontiguousarray(tile.cut(image)))[0]
        boxes += (one.boxes + [tile.left, tile.top] * 2).tolist()
    assert 0 < len(result.boxes) <= len(boxes)
    gaps = np.abs(result.boxes[:, None] - np.array(boxes)).max(2).min(1)
    assert gaps.max() < 1e-3  # every box is of a tile
    assert result.masks.shape == (len(result.boxes), 200, 300)
    for box, mask in zip(result.boxes, result.masks):
        rows, columns = np.nonzero(mask)
        if len(rows):
            assert box[0] - 2 <= columns.min() and columns.max() <= box[2] + 2
            assert box[1] - 2 <= rows.min() and rows.max() <= box[3] + 2


def test_mixed_sizes_keep_their_order(trained):
    made = trained('segmentation')
    sizes = [(64, 64), (200, 150), (64, 70), (64, 64), (100, 180), (140, 140)]
    given = [photo(trained, 'segmentation', *size) for size in sizes]
    results = scopevit.Predictor(made.checkpoint, tile=128, batch_size=4)(given)
    assert [result.size for result in results] == sizes


def test_size_of_images(trained, monkeypatch, tmp_path):
    made, path = trained('segmentation'), tmp_path / 'a.png'
    cv2.imwrite(str(path), photo(trained, 'segmentation', 100, 120))
    monkeypatch.setattr(images, 'MAX_PIXELS', 10_000)
    with pytest.raises(InputError, match=r'a\.png has 120 x 100 pixels, more than 10,000: --tile'):
        scopevit.Predictor(made.checkpoint)(path)
    assert scopevit.Predictor(made.checkpoint, tile=64)(path)[0].size == (100, 120)
    monkeypatch.setattr(images, 'MAX_TILED_PIXELS', 11_000)
    with pytest.raises(InputError, match='more than 11,000: cut it into smaller images'):
        scopevit.Predictor(made.checkpoint, tile=64)(path)


def test_bad_input(trained, tool):
    with pytest.raises(InputError, match='tile must be at least 64 pixels, not 63'):
        scopevit.Predictor(trained('detection').checkpoint, tile=63)
    for task in ('classification', 'pose'):
        with pytest.raises(InputError, match=f'for detection and segmentation, not for {task}'):
            scopevit.Predictor(trained(task).checkpoint, tile=512)


def test_picture_of_a_large_image(trained, monkeypatch):
    monkeypatch.setattr('scopevit.inference.drawing.LONGEST_SIDE', 600)
    for task in ('detection', 'segmentation'):
        image = photo(trained, task, 1200, 900)
        made = trained(task).checkpoint
        result = scopevit.Predictor(made, min_score=0.05, tile=512)(image)[0]
        assert result.plot().shape[1] == 450
        assert result.plot().shape[0] > 600  # with its strip


def blobs(pixels, **image):
    """Finds the white objects in pixels, each with its mask."""
    count, numbers, stats, _ = cv2.connectedComponentsWithStats(pixels)
    boxes = [(x, y, x + w, y + h) for x, y, w, h, _ in stats[1:]]
    masks = [np.asfortranarray(numbers == i, np.uint8) for i in range(1, count)]
    return DetectionResult(
        boxes=np.array(boxes, float).reshape(-1, 4),
        # Surer of small ones: of parts, that is.
        scores=1 / np.array([100 + area for *_, area in stats[1:]], float),
        classes=np.zeros(count - 1, int),
        rles=tuple(coco_mask.encode(mask) for mask in masks),
        **image,
    )


@pytest.mark.parametrize('size', [(500, 700), (128, 300), (300, 90), (241, 242)])
def test_every_object_is_found_once_and_whole(size, trained, monkeypatch):
    image = np.zeros(size, np.uint8)
    for top in range(2, size[0] - 32, 37):
        for left in range(1, size[1] - 32, 37):
            cv2.ellipse(image, (left + 15, top + 15), (15, int(GENERATOR.integers(7, 15))),
                        float(GENERATOR.uniform(0, 180)), 0, 360, 255, -1)  # fmt: skip
    predictor = scopevit.Predictor(trained('detection').checkpoint, tile=128)
    monkeypatch.setattr(
        predictor, '_prepare', lambda image, _: setattr(image, 'inputs', [image.pixels[..., 0]])
    )
    monkeypatch.setattr(predictor, '_forward', list)
    monkeypatch.setattr(
        predictor, '_convert', lambda made, **image: blobs(made[0], labels=Labels(), **image)
    )
    result = predictor(image)[0]
    whole = blobs(image, labels=Labels(), source='', name='', size=size)
    kept = {tuple(box): rle for box, rle in zip(result.boxes.tolist(), result.rles)}
    assert kept == {tuple(box): rle for box, rle in zip(whole.boxes.tolist(), whole.rles)}
    assert len(result.boxes) == len(whole.boxes) > 10


def test_a_pose_takes_the_boxes_of_tiles(trained):
    image = photo(trained, 'pose', 200, 300)
    made = trained('detection').checkpoint
    tiled = scopevit.Predictor(made, min_score=0.05, tile=128)
    wanted = tiled(image)[0].boxes
    result = scopevit.Predictor(trained('pose').checkpoint, detector=tiled)(image)[0]
    assert result.boxes == pytest.approx(wanted, abs=1e-3)
    plain = scopevit.Predictor(made, min_score=0.05)(image)[0].boxes
    assert plain.shape != wanted.shape or np.abs(plain - wanted).max() > 1


def test_large_files_are_decoded_in_their_turn(trained, monkeypatch, tmp_path):
    for name in 'abcdef':
        cv2.imwrite(str(tmp_path / f'{name}.png'), photo(trained, 'segmentation', 100, 120))
    predictor = scopevit.Predictor(trained('segmentation').checkpoint, tile=64, batch_size=8)
    monkeypatch.setattr(images, 'MANY_PIXELS', 10_000)
    read, names = predictor._read, []
    monkeypatch.setattr(predictor, '_read', lambda item: names.append(item.name) or read(item))
    for count, result in enumerate(predictor.stream(tmp_path), 1):
        assert names[-1] == result.name
        assert len(names) == count
    assert len(names) == 6


def test_damaged_large_file_is_told_of(trained, monkeypatch, tmp_path):
    for name in 'abc':
        cv2.imwrite(str(tmp_path / f'{name}.png'), photo(trained, 'segmentation', 100, 120))
    (tmp_path / 'b.png').write_bytes((tmp_path / 'a.png').read_bytes()[:60])
    monkeypatch.setattr(images, 'MANY_PIXELS', 10_000)
    errors = []
    predictor = scopevit.Predictor(trained('segmentation').checkpoint, tile=64)
    results = list(predictor.stream(tmp_path, skipped=errors.append))
    assert [result.name for result in results] == ['a.png', 'c.png']
    assert len(errors) == 1 and 'b.png' in str(errors[0])


def test_frames_of_a_video(trained, tmp_path):
    frame = photo(trained, 'segmentation', 120, 160)
    video = cv2.VideoWriter(
        str(tmp_path / 'a.mp4'), cv2.VideoWriter.fourcc(*'mp4v'), 10, (160, 120)
    )
    for i in range(3):
        video.write(np.roll(frame, 20 * i, 1))
    video.release()
    results = list(scopevit.Predictor(trained('segmentation').checkpoint, tile=96)
                   .stream(tmp_path / 'a.mp4'))  # fmt: skip
    assert [(result.frame, result.size) for result in results] == [
        (i, (120, 160)) for i in range(3)
    ]
    one = scopevit.Predictor(trained('segmentation').checkpoint, tile=96)(results[1].image)[0]
    assert (one.class_map == results[1].class_map).all()


def test_picture_of_a_line(trained, monkeypatch):
    monkeypatch.setattr('scopevit.inference.drawing.LONGEST_SIDE', 600)
    result = blobs(np.zeros((1, 5000), np.uint8), labels=Labels(), source='', name='',
                   size=(1, 5000), image=np.zeros((1, 5000, 3), np.uint8))  # fmt: skip
    assert result.plot().shape[1] == 600
