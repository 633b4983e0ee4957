"""Draws a demo task's predictions beside the ground truth, one picture a task."""

import json
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pycocotools.mask as mask_utils
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from mmengine.fileio import load

matplotlib.use('Agg')  # no screen is needed

FASHION_CLASSES = (
    'T-shirt',
    'trouser',
    'pullover',
    'dress',
    'coat',
    'sandal',
    'shirt',
    'sneaker',
    'bag',
    'ankle boot',
)
NUCLEI_CLASSES = ('connective', 'inflammatory', 'neoplastic')
# Colours that the colour-blind tell apart (Okabe and Ito), RGB from 0 to 1.
NUCLEI_COLORS = ((0.0, 0.62, 0.45), (0.9, 0.6, 0.0), (0.84, 0.37, 0.0))
RIGHT_COLOR, LEFT_COLOR, MIDDLE_COLOR = (0.0, 0.45, 0.7), (0.9, 0.6, 0.0), (0.8, 0.8, 0.8)
# Limbs between COCO's keypoints, and their side.
LIMBS = (
    *(((a, b), LEFT_COLOR) for a, b in ((5, 7), (7, 9), (5, 11), (11, 13), (13, 15), (1, 3))),
    *(((a, b), RIGHT_COLOR) for a, b in ((6, 8), (8, 10), (6, 12), (12, 14), (14, 16), (2, 4))),
    *(((a, b), MIDDLE_COLOR) for a, b in ((5, 6), (11, 12), (0, 1), (0, 2))),
)
MIN_BOX_SCORE = 0.3
MIN_KEYPOINT_SCORE = 0.3
DPI = 100


def draw_classification(predictions: Path, data_root: Path, out: Path) -> None:
    """Draws the first 40 test images with what they are taken for."""
    results = load(predictions)
    images = read_idx_images(data_root / 't10k-images-idx3-ubyte')
    figure = Figure(figsize=(10, 6.4), dpi=DPI, layout='constrained')
    for axes, image, result in zip(figure.subplots(5, 8).flat, images, results):
        predicted, truth = int(result['pred_label']), int(result['gt_label'])
        axes.imshow(image, cmap='gray_r')
        title = FASHION_CLASSES[predicted]
        if predicted != truth:
            title += f'\n(true: {FASHION_CLASSES[truth]})'
        axes.set_title(title, fontsize=8, color='black' if predicted == truth else 'red')
        axes.axis('off')
    figure.suptitle('Prediction; in red where it is wrong, with the ground truth', fontsize=10)
    figure.savefig(out)


def read_idx_images(path: Path) -> np.ndarray:
    """Reads a file of MNIST's format, (N, H, W) of uint8."""
    data = path.read_bytes()
    count, height, width = np.frombuffer(data, '>i4', 3, 4)
    return np.frombuffer(data, np.uint8, offset=16).reshape(count, height, width)


def draw_segmentation(predictions: Path, data_root: Path, out: Path) -> None:
    """Draws a held-out tile a class: image, truth, prediction."""
    rows = []
    for result, truth in one_a_class(load(predictions), data_root):
        image = read_image(result['img_path'])
        predicted = np.asarray(result['pred_sem_seg']['data']).squeeze()
        rows.append([image, tint(image, truth), tint(image, predicted)])
    draw_rows(rows, NUCLEI_CLASSES, out)


def tint(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Colours the nuclei of an image: (H, W, 3) uint8, labels (H, W) from 0, background, to 3."""
    colors = np.array([(0, 0, 0), *NUCLEI_COLORS]) * 255
    strength = np.where(labels > 0, 0.6, 0.0)[..., None]
    return (image * (1 - strength) + colors[labels] * strength).astype(np.uint8)


def draw_detection(predictions: Path, data_root: Path, out: Path) -> None:
    """Draws a held-out tile a class: image, true boxes and outlines, found ones."""
    coco = json.loads((data_root / 'annotations/instances_val.json').read_text())
    by_name = {image['file_name']: image['id'] for image in coco['images']}
    rows = []
    for result, _ in one_a_class(load(predictions), data_root):
        image = read_image(result['img_path'])
        image_id = by_name[Path(result['img_path']).name]
        true = [a for a in coco['annotations'] if a['image_id'] == image_id]
        found = result['pred_instances']
        sure = np.flatnonzero(np.asarray(found['scores']) >= MIN_BOX_SCORE)
        boxes = np.asarray(found['bboxes'])  # (x1, y1, x2, y2)
        rows.append(
            [
                image,
                outline(
                    image,
                    [a['segmentation'] for a in true],
                    [a['category_id'] - 1 for a in true],
                    [(x, y, x + w, y + h) for x, y, w, h in (a['bbox'] for a in true)],
                ),
                outline(
                    image,
                    [found['masks'][i] for i in sure],
                    [int(found['labels'][i]) for i in sure],
                    boxes[sure],
                ),
            ]
        )
    draw_rows(rows, NUCLEI_CLASSES, out)


def outline(image: np.ndarray, masks: list, labels: list[int], boxes: list) -> np.ndarray:
    """Draws masks' outlines and thin boxes into an image, enlarged so that they are fine lines."""
    scale = 3
    height, width = image.shape[:2]
    canvas = cv2.resize(image, (width * scale, height * scale), interpolation=cv2.INTER_CUBIC)
    for mask, label, box in zip(masks, labels, boxes):
        color = tuple(int(255 * c) for c in NUCLEI_COLORS[label])
        filled = cv2.resize(mask_utils.decode(mask), canvas.shape[1::-1])
        contours, _ = cv2.findContours(filled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, contours, -1, color, 2)
        x1, y1, x2, y2 = (round(float(side) * scale) for side in box)
        cv2.rectangle(canvas, (x1, y1), (x2, y2), color, 1)
    return canvas


def draw_pose(predictions: Path, data_root: Path, out: Path) -> None:
    """Draws one held-out image a camera: true and found skeletons."""
    by_image = {}
    for result in load(predictions):
        by_image.setdefault(result['img_path'], []).append(result)
    cameras = {}
    for path in sorted(by_image):
        cameras.setdefault(Path(path).stem.rpartition('_')[0], path)
    figure = Figure(figsize=(12, 7.6), dpi=DPI, layout='constrained')
    for column, path in zip(figure.subplots(2, len(cameras)).T, cameras.values()):
        for axes, kind in zip(column, ('ground truth', 'prediction')):
            axes.imshow(read_image(path))
            axes.set_title(kind, fontsize=9)
            axes.axis('off')
            for result in by_image[path]:
                instances = result['gt_instances' if kind == 'ground truth' else 'pred_instances']
                seen = np.asarray(
                    instances['keypoints_visible']
                    if kind == 'ground truth'
                    else instances['keypoint_scores']
                )
                draw_skeleton(axes, np.asarray(instances['keypoints'])[0], seen[0])
    figure.savefig(out)


def draw_skeleton(axes: Axes, keypoints: np.ndarray, scores: np.ndarray) -> None:
    """Draws one person's limbs: keypoints (17, 2) in pixels, scores (17,)."""
    sure = scores.reshape(len(keypoints), -1)[:, 0] > MIN_KEYPOINT_SCORE
    for limb, color in LIMBS:
        if sure[list(limb)].all():
            axes.plot(*keypoints[list(limb)].T, color=color, linewidth=2)
    axes.scatter(*keypoints[sure].T, s=6, color='white', zorder=3)


def one_a_class(results: list[dict], data_root: Path) -> list[tuple[dict, np.ndarray]]:
    """Chooses for each class the tile that truly has most of it; with its labels (H, W)."""
    labels = {}
    for path in sorted({result['img_path'] for result in results}):
        mask = data_root / 'masks' / 'val' / f'{Path(path).stem}.png'
        labels[path] = cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)
    by_path = {result['img_path']: result for result in results}
    chosen = []
    for label in range(1, len(NUCLEI_CLASSES) + 1):
        path = max(
            (path for path in labels if path not in chosen),
            key=lambda path: np.count_nonzero(labels[path] == label),
        )
        chosen.append(path)
    return [(by_path[path], labels[path]) for path in chosen]


def read_image(path: str | Path) -> np.ndarray:
    """Reads an image as (H, W, 3), RGB."""
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def draw_rows(rows: list[list[np.ndarray]], classes: tuple[str, ...], out: Path) -> None:
    """Draws rows of image, truth and prediction over a legend of the classes."""
    figure = Figure(figsize=(9, 3.1 * len(rows)), dpi=DPI, layout='constrained')
    grid = figure.subplots(len(rows), 3)
    for row, images in zip(grid, rows):
        for axes, image in zip(row, images):
            axes.imshow(image)
            axes.axis('off')
    for axes, title in zip(grid[0], ('image', 'ground truth', 'prediction')):
        axes.set_title(title)
    handles = [Line2D([], [], color=c, linewidth=5) for c in NUCLEI_COLORS]
    figure.legend(handles, classes, loc='outside lower center', ncols=len(classes), frameon=False)
    figure.savefig(out)


def draw_overview(paths: list[Path], out: Path) -> None:
    """Draws the tasks' pictures side by side, two a row."""
    columns = min(len(paths), 2)
    rows = -(-len(paths) // columns)
    figure = Figure(figsize=(7 * columns, 5.2 * rows), dpi=DPI, layout='constrained')
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in cells:
        axes.axis('off')
    for axes, path in zip(cells, paths):
        axes.imshow(read_image(path))
        axes.set_title(path.stem)
    figure.savefig(out)
