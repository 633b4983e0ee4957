"""The graph of a checkpoint, and what its library itself predicts."""

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import print_log
from mmengine.registry import DefaultScope

from scopevit.engine.checks.weights import read_weights
from scopevit.errors import InputError
from scopevit.export.graphs import (
    BackboneGraph,
    ClassifierGraph,
    Graph,
    Images,
    SegmentorGraph,
    pool_any_size,
    switch_to_deploy,
)
from scopevit.export.preprocessing import fixed_size, put_into_corner
from scopevit.inference import images, network
from scopevit.inference.recipe import Recipe, find_recipe

DEFAULT_SIZE = (512, 512)  # where the pipeline names none
LEAST_SIDE = 32


@dataclass
class Network:
    """A checkpoint's network, as its library has it, and what an export needs of it.

    Attributes:
        recipe: What the config says.
        model: Of the library.
        channels: Of the images.
        size: Height and width of the images.
    """

    recipe: Recipe
    model: Any
    channels: int
    size: tuple[int, int]

    @property
    def is_rgb(self) -> bool:
        """Whether the pipeline's images are RGB."""
        return self.recipe.loading.is_rgb

    def graph(self, backbone: bool = False, any_size: bool = False) -> Graph:
        """Returns what is exported, of the model or of its backbone alone, for images of any size.

        Raises:
            InputError: If this kind of model cannot be exported.
        """
        model = copy.deepcopy(self.model)
        switch_to_deploy(model)
        if any_size:
            pool_any_size(model)
        inputs = Images(model.data_preprocessor, self.is_rgb)
        if backbone:
            example = torch.zeros(2, self.channels, *self.size)
            with torch.no_grad():
                maps = model.backbone(example)
            names = tuple(f'map{i}' for i in range(len(maps)))
            graph: Graph = BackboneGraph(model.backbone, inputs, names)
        else:
            graph = self._task_graph(model, inputs)
        return graph.eval().requires_grad_(False)

    def _task_graph(self, model: Any, inputs: Images) -> Graph:
        match self.recipe.library.task:
            case 'classification':
                return ClassifierGraph(model, inputs)
            case 'segmentation':
                return SegmentorGraph(model, inputs)
            case 'detection':
                from scopevit.export.detection import DetectorGraph

                return DetectorGraph(model, inputs, self.size)
        if not self.recipe.is_topdown:
            raise InputError('of poses, top-down networks alone can be exported')
        from scopevit.export.pose import PoseGraph

        return PoseGraph(model, inputs, self.recipe.metainfo.get('flip_indices'))

    def predict(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        """Returns what the library itself predicts of images (N, H, W, C), by the graph's names."""
        inputs = batch if self.is_rgb or self.channels == 1 else batch[..., ::-1]
        tensors = torch.from_numpy(np.ascontiguousarray(inputs)).permute(0, 3, 1, 2)  # (N, C, H, W)
        with torch.inference_mode(), DefaultScope.overwrite_default_scope(self.recipe.library.name):
            if self.recipe.library.task == 'classification':
                samples = self.model.test_step({'inputs': tensors})
            else:
                given = {'inputs': list(tensors), 'data_samples': self._samples(batch)}
                samples = self.model.test_step(given)
        return answers(self.recipe.library.task, samples)

    def _samples(self, batch: np.ndarray) -> list[Any]:
        height, width = batch.shape[1:3]
        meta = dict(
            img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0),
            img_path='', img_id=0,
        )  # fmt: skip
        match self.recipe.library.task:
            case 'detection':
                from mmdet.structures import DetDataSample as Sample
            case 'segmentation':
                from mmseg.structures import SegDataSample as Sample
            case _:
                return [self._pose_sample(meta, width, height) for _ in batch]
        return [Sample(metainfo=meta) for _ in batch]

    def _pose_sample(self, meta: dict[str, Any], width: int, height: int) -> Any:
        from mmengine.structures import InstanceData
        from mmpose.structures import PoseDataSample

        box = np.array([[0, 0, width, height]], np.float32)
        size = np.array([width, height], np.float32)
        # The image is its own box, so that keypoints come back in its pixels.
        whole = dict(input_size=(width, height), input_center=size / 2, input_scale=size)
        flips = self.recipe.metainfo.get('flip_indices')
        sample = PoseDataSample(metainfo=meta | whole | {'flip_indices': flips})
        sample.gt_instances = InstanceData(bboxes=box, bbox_scores=np.ones(1, np.float32))
        return sample


def answers(task: str, samples: Sequence[Any]) -> dict[str, np.ndarray]:
    """Returns what samples of a library hold, by the names of an export."""
    if task == 'classification':
        return {'probabilities': np.stack([one.pred_score.numpy() for one in samples])}
    if task == 'segmentation':
        maps = [one.pred_sem_seg.data[0].numpy().astype(np.uint8) for one in samples]
        return {'classes': np.stack(maps)}
    found = [one.pred_instances for one in samples]
    if task == 'pose':
        return {
            'keypoints': np.concatenate([one.keypoints for one in found]),
            'scores': np.concatenate([one.keypoint_scores for one in found]),
        }
    names = {'boxes': 'bboxes', 'scores': 'scores', 'labels': 'labels', 'masks': 'masks'}
    return {key: np.asarray(found[0][name]) for key, name in names.items() if name in found[0]}


def load_network(
    checkpoint: Path, config: str | Path | None, size: tuple[int, int] | None
) -> Network:
    """Builds the network of a checkpoint; see `export_checkpoint`.

    Raises:
        InputError: If the checkpoint is none of these, or the size too small.
    """
    content = read_weights(checkpoint)
    recipe = find_recipe(content, checkpoint, config)
    if recipe.loading.to_float32:
        raise InputError(f'{recipe.source}: its pipeline gives no images of 8 bits (to_float32)')
    model: Any = network.build_network(recipe, content, checkpoint, 'cpu')
    size = size or default_size(recipe)
    if min(size) < LEAST_SIDE:
        raise InputError(f'--shape: each side has at least {LEAST_SIDE} pixels, not {min(size)}')
    if recipe.library.task == 'pose' and size != fixed_size(recipe.pipeline):
        raise InputError('--shape: that of a pose network is the input_size of its codec')
    return Network(recipe, model, network.input_channels(model), size)


def default_size(recipe: Recipe) -> tuple[int, int]:
    """Returns the height and width of the images of an export: what the pipeline makes of photos.

    A detector's is a square, which holds those that stand and those that lie.
    """
    size = fixed_size(recipe.pipeline) or DEFAULT_SIZE
    return (max(size), max(size)) if recipe.library.task == 'detection' else size


def read_examples(folder: str | Path | None, net: Network, count: int = 2) -> list[np.ndarray]:
    """Returns images, (H, W, C) each, to try an export with: of a folder, or drawn.

    Raises:
        InputError: If there are none in the folder.
    """
    if folder is None:
        return list(draw_examples(count, net.size, net.channels))
    found = list(pipeline_images(folder, net, count))
    if not found:
        raise InputError(f'--images takes images, and {folder} has none')
    return found


def pipeline_images(folder: str | Path, net: Network, count: int) -> Iterator[np.ndarray]:
    """Yields images of a folder as the test pipeline makes them, (H, W, C) of the export's size.

    They lie evenly in its order: where it has a folder a class, the first ones are of one. Damaged
    ones are left out, and told.
    """
    from scopevit.inference.sources import open_sources

    pipeline = network.build_pipeline(net.recipe)
    items = [item for source in open_sources(folder) for item in source.items(0)]
    count = min(count, len(items))
    for item in (items[i * len(items) // count] for i in range(count)):
        if isinstance(item, InputError):
            print_log(f'left out: {item}', logger='current', level=logging.WARNING)
            continue
        if item.path is None:  # a frame of a video
            continue
        try:
            pixels = images.read_image(item.path, net.recipe.loading, net.channels)
        except InputError as error:
            print_log(f'left out: {error}', logger='current', level=logging.WARNING)
            continue
        info = network.pipeline_infos(net.recipe, pixels, item.source)[0]
        tensor = pipeline(info)['inputs']  # (C, H, W)
        image = tensor.numpy().transpose(1, 2, 0)
        yield np.ascontiguousarray(of_size(image if net.is_rgb else image[..., ::-1], net))


def of_size(image: np.ndarray, net: Network) -> np.ndarray:
    """Returns an image of the size of an export: for a detector in the upper left corner."""
    height, width = net.size
    is_larger = image.shape[0] > height or image.shape[1] > width
    if net.recipe.library.task == 'detection' and not is_larger:
        fill = Images(net.model.data_preprocessor, net.is_rgb).fill_color()
        return put_into_corner(image, net.size, fill)
    import cv2

    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized.reshape(height, width, -1)


def draw_examples(count: int, size: tuple[int, int], channels: int) -> np.ndarray:
    """Draws discs and boxes on a slope with noise, the same ones every time."""
    import cv2

    random = np.random.default_rng(0)
    height, width = size
    drawn = []
    for _ in range(count):
        slope = (
            np.linspace(40, 200, width)[None, :, None] + np.linspace(-30, 30, height)[:, None, None]
        )
        image = np.repeat(slope, 3, axis=2) + random.normal(0, 8, (height, width, 3))
        image = np.ascontiguousarray(image.clip(0, 255).astype(np.uint8))
        for _ in range(12):
            x, y = (int(random.integers(side)) for side in (width, height))
            radius = int(random.integers(2, max(min(size) // 6, 3)))
            color = [int(value) for value in random.integers(0, 256, 3)]
            cv2.circle(image, (x, y), radius, color, -1)
            cv2.rectangle(image, (y, x), (y + radius, x + 2 * radius), color[::-1], -1)
        drawn.append(image[..., :channels])
    return np.ascontiguousarray(np.stack(drawn))
