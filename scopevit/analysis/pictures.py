"""Pictures of samples: pixels as they were before normalisation, annotations drawn in."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmengine.structures import BaseDataElement, InstanceData, PixelData
from mmengine.visualization import Visualizer
from torch import Tensor
from torch.nn import functional

from scopevit.files import write_bytes

# Small images are enlarged to about this many pixels, for lines and text to be readable.
LONG_SIDE = 640


@dataclass(frozen=True)
class ImageFormat:
    """How the numbers of an image came from its pixels."""

    is_rgb: bool  # order of the channels, where there are three
    # Pairs (mean, std) of shape (C, 1, 1), in the order they were applied.
    normalizations: tuple[tuple[Tensor, Tensor], ...]
    annotated_as_loaded: bool  # whether annotations are in the pixels of the file, not of the image

    def to_pixels(self, image: Tensor) -> np.ndarray:
        """Converts an image, (C, H, W), to RGB, (H, W, 3) uint8.

        With other than three channels, the first is shown.
        """
        pixels = image.float()
        for mean, std in reversed(self.normalizations):
            pixels = pixels * std + mean
        if image.is_floating_point() and not self.normalizations and pixels.max() < 20:
            # Scaled by a step that does not say how, such as torchvision's ToTensor.
            pixels = (pixels - pixels.min()) / (pixels.max() - pixels.min()).clamp(min=1e-6) * 255
        if len(pixels) != 3:
            pixels = pixels[:1].expand(3, -1, -1)
        elif not self.is_rgb:
            pixels = pixels.flip(0)
        # (3, H, W) -> (H, W, 3)
        return pixels.permute(1, 2, 0).clamp(0, 255).round().byte().numpy()


def draw(
    visualizer: Visualizer, image_format: ImageFormat, inputs: Tensor, data_samples: BaseDataElement
) -> np.ndarray:
    """Draws an image, (C, H, W), with its annotations, which it changes in place.

    Returns:
        RGB of shape (H', W', 3), uint8.
    """
    pixels, sample = image_format.to_pixels(inputs), data_samples
    if image_format.annotated_as_loaded and 'scale_factor' in sample:
        rescale_annotations(sample, *sample.scale_factor)
    height, width = annotated_size(sample) or pixels.shape[:2]
    pixels = pixels[:height, :width]
    scale = max(1, round(LONG_SIDE / max(pixels.shape[:2])))
    pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    rescale_annotations(sample, scale, scale)
    visualizer.set_image(pixels)  # stays where there is nothing to draw
    if hasattr(visualizer, 'visualize_cls'):
        names = mixed_names(sample, (visualizer.dataset_meta or {}).get('classes'))
        visualizer.visualize_cls(pixels, sample, classes=names, draw_pred=False)
        return visualizer.get_image()
    if 'data' in sample.get('gt_sem_seg', {}):
        # Its own labels lie on the image, white on white in part, and take seconds.
        visualizer.add_datasample('', pixels, sample, draw_pred=False, with_labels=False)
        legend = draw_legend(sample.gt_sem_seg.data, visualizer.dataset_meta, pixels.shape[1])
        return np.vstack([visualizer.get_image(), legend])
    if 'keypoints' not in sample.get('gt_instances', {}):
        visualizer.add_datasample('', pixels, sample, draw_pred=False)
        return visualizer.get_image()
    visualizer.add_datasample(
        '',
        pixels,
        sample,
        draw_pred=False,
        draw_heatmap=isinstance(sample.get('gt_fields'), PixelData),
        # Boxes stay in the pixels of the file.
        draw_bbox='transformed_keypoints' not in sample.gt_instances,
    )
    # The library puts the heatmap below the image.
    picture = visualizer.get_image()
    return np.hstack(np.split(picture, len(picture) // len(pixels)))


def annotated_size(sample: BaseDataElement) -> tuple[int, int] | None:
    """Returns height and width of masks or label maps, which outside of training lack padding."""
    masks = sample.get('gt_instances', {}).get('masks')
    if masks is not None:
        return masks.height, masks.width
    return sample.gt_sem_seg.shape if 'gt_sem_seg' in sample else None


def rescale_annotations(sample: BaseDataElement, scale_x: float, scale_y: float) -> None:
    """Fits the annotations to an image that was resized by two factors, in place."""
    instances = sample.get('gt_instances', InstanceData())
    if 'bboxes' in instances:
        boxes = getattr(instances.bboxes, 'tensor', instances.bboxes)
        boxes[:, 0::2] *= scale_x  # (x1, y1, x2, y2)
        boxes[:, 1::2] *= scale_y
        instances.bboxes = boxes
    if 'masks' in instances:
        masks = instances.masks
        instances.masks = masks.resize(
            (round(masks.height * scale_y), round(masks.width * scale_x))
        )
    for name in ('keypoints', 'transformed_keypoints'):
        if name in instances:
            # The middle of a pixel stays the middle.
            points = (instances.get(name) + 0.5) * np.array([scale_x, scale_y]) - 0.5
            instances.set_field(points, name)
    if np.ndim(instances.get('keypoints_visible')) == 3:
        # (N, K, 2) -> (N, K): visibility without the weight
        instances.set_field(instances.keypoints_visible[..., 0], 'keypoints_visible')
    for name in ('gt_sem_seg', 'gt_depth_map'):
        if name in sample:
            maps = sample.get(name)
            size = round(maps.shape[0] * scale_y), round(maps.shape[1] * scale_x)
            resized = {key: resize_map(torch.as_tensor(value), size) for key, value in maps.items()}
            setattr(sample, name, maps.new(**resized))


def resize_map(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Resizes a map, (1, H, W), to height and width by the nearest pixels."""
    return functional.interpolate(labels[None].double(), size)[0].to(labels.dtype)


def mixed_names(sample: BaseDataElement, classes: list[str] | None) -> list[str] | None:
    """Labels a mixed image by all of its classes, in place; returns names that give the shares."""
    score = sample.get('gt_score')
    if score is None or score.count_nonzero() < 2:
        return None
    sample.set_gt_label(score.nonzero().flatten())
    names = classes or map(str, range(len(score)))
    return [f'{name}: {share:.2f}' for name, share in zip(names, score.tolist())]


def draw_legend(labels: Tensor, metainfo: dict, width: int) -> np.ndarray:
    """Draws colour and name of each class in a label map, (1, H, W); returns (H', width, 3)."""
    present = [i for i in labels.unique().tolist() if i < len(metainfo['classes'])]
    columns, row = max(1, width // 160), 24
    legend = np.full((row * -(-len(present) // columns), width, 3), 255, np.uint8)
    for place, label in enumerate(present):
        x, y = place % columns * 160 + 4, place // columns * row + 4
        color = tuple(map(int, metainfo['palette'][label]))
        cv2.rectangle(legend, (x, y), (x + 16, y + 16), color, cv2.FILLED)
        cv2.rectangle(legend, (x, y), (x + 16, y + 16), (0, 0, 0))
        name = metainfo['classes'][label]
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(legend, name, (x + 22, y + 13), font, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
    return legend


def side_by_side(pictures: list[np.ndarray]) -> np.ndarray:
    """Joins pictures, each (H, W, 3), left to right on white."""
    height, gap = max(len(picture) for picture in pictures), 8
    padded = [
        cv2.copyMakeBorder(
            picture, 0, height - len(picture), 0, gap, cv2.BORDER_CONSTANT, value=(255,) * 3
        )
        for picture in pictures
    ]
    return np.hstack(padded)[:, :-gap]


def draw_sheet(pictures: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """Draws named pictures into a grid, two or four a row; returns (H, W, 3), RGB."""
    tallest = max(picture.shape[0] / picture.shape[1] for _, picture in pictures)
    columns = min(4 if tallest > 0.7 else 2, len(pictures))
    rows = -(-len(pictures) // columns)
    width = 14.4 / max(columns, 2)  # inches
    size = (width * columns, (width * tallest + 0.35) * rows)
    figure = Figure(size, dpi=100, layout='constrained')
    canvas = FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid:
        axes.axis('off')
    for axes, (name, picture) in zip(grid, pictures):
        axes.imshow(picture)
        axes.set_title(name if len(name) <= 40 else f'{name[:39]}…', fontsize=8)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Writes a picture, (H, W, 3) RGB, as a PNG file, whole or not at all."""
    _, data = cv2.imencode('.png', cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    write_bytes(path, data.tobytes())
