"""Prediction with a checkpoint alone, for all four tasks."""

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import DefaultScope

from scopevit.checkpoint import is_exported
from scopevit.engine.explain import input_errors
from scopevit.errors import InputError
from scopevit.inference import images, network, tiles
from scopevit.inference.background import map_in_background
from scopevit.inference.results import DetectionResult, Result, SegmentationResult
from scopevit.inference.samples import Converter, read_labels
from scopevit.inference.sources import Item, Source, open_sources
from scopevit.inference.waiting import Skipped, Waiting, in_groups, leave_out_damaged

HELD = 4  # batches of images that wait for others of their size
THREADS = 4  # that decode, at most


class Predictor:
    """Predicts by a checkpoint, through the test pipeline and network of its library.

    Args:
        checkpoint: File of a training with mmengine, which has its config and classes in it; or
            an .onnx or .xml of `scopevit export`, with the .json beside it.
        device: 'cpu', 'cuda', 'cuda:1', ...; by default a GPU, where there is one.
        batch_size: Images, or boxes of them, that go through the network together; by default that
            of the config's test.
        config: A config file instead of the one in the checkpoint. It is Python code that runs.
        half: Whether the backbone runs in half precision.
        compile: Whether to compile the backbone.
        detector: For poses, what finds the boxes: a checkpoint of a detection, or its `Predictor`.
            Without it, and without boxes, the whole image is one.
        min_score: Least score of objects, and of a detector's boxes.
        top_k: Most classes of a classification.
        tile: For detection and segmentation: images with a longer side are predicted in tiles of
            this many pixels a side, which overlap.

    Attributes:
        task: 'classification', 'detection', 'segmentation' or 'pose'.
        labels: What the numbers in results mean.
        model: The network, of the task's library.

    Raises:
        InputError: If the checkpoint cannot be read as data, has no config or not the weights of
            its model, or a device or detector is none.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        device: str | None = None,
        batch_size: int | None = None,
        config: str | Path | None = None,
        half: bool = False,
        compile: bool = False,
        detector: 'str | Path | Predictor | None' = None,
        min_score: float = 0.3,
        top_k: int = 5,
        tile: int | None = None,
    ) -> None:
        self._recipe, self.model = network.open_network(checkpoint, config, device)
        recipe = self._recipe
        self.device = network.device_of(self.model)
        self.task = recipe.library.task
        self.labels = read_labels(recipe.metainfo, str(checkpoint))
        self.batch_size = batch_size or recipe.batch_size
        if self.batch_size < 1:
            raise InputError(f'batch_size must be at least 1, not {batch_size}')
        self.tile = check_tile(tile, self.task)
        self._detector = self._find_detector(detector, min_score)
        self._channels = network.input_channels(self.model)
        self._pipeline = network.build_pipeline(recipe)
        self._collate = network.collate(recipe.library)
        self._convert = Converter(recipe.library.name, self.labels, top_k, min_score)
        if half:
            network.halve_backbone(self.model, self.device)
        if compile:
            network.compile_backbone(self.model)

    def _find_detector(
        self, detector: 'str | Path | Predictor | None', min_score: float
    ) -> 'Predictor | None':
        if detector is None:
            return None
        if not self._recipe.is_topdown:
            raise InputError('a detector finds the boxes for top-down poses alone')
        if not isinstance(detector, Predictor):
            device = None if is_exported(detector) else self.device  # one runs on the CPU
            detector = Predictor(detector, device, min_score=min_score)
        if detector.task != 'detection':
            raise InputError(f'the detector is a checkpoint of {detector.task}, not of detection')
        return detector

    def __call__(self, source: object, boxes: object = None) -> list[Result]:
        """Returns the result of every image; `stream` has the arguments.

        Results of image files hold no pixels, so that there may be many.
        """
        return [
            result if result.frame is not None or not Path(result.source).is_file()
            else replace(result, image=None)
            for result in self.stream(source, boxes)
        ]  # fmt: skip

    def stream(
        self, source: object, boxes: object = None, skipped: Skipped | None = None
    ) -> Generator[Result, None, None]:
        """Yields the result of every image in their order, and never holds more than a few batches.

        Images are decoded in the background while the network runs.

        Args:
            source: A file, folder, pattern, video or camera's number, an array of NumPy (BGR, as
                OpenCV reads it) or a PIL image, or several of these; or what `open_sources` gives.
            boxes: For poses, where to look: (N, 4), left, top, right and bottom in pixels, for all
                images; or by name of the image, as its file's.
            skipped: Called with the error of every damaged image, which is then left out. Without
                it, the error is raised.

        Raises:
            InputError: If there are no such images, or one is damaged.
        """
        is_open = isinstance(source, list) and all(isinstance(one, Source) for one in source)
        sources: list[Source] = source if is_open else open_sources(source)  # type: ignore[assignment]
        if boxes is not None and not self._recipe.is_topdown:
            raise InputError('boxes are for top-down poses alone')
        return self._stream(sources, boxes, skipped)

    def _stream(
        self, sources: list[Source], boxes: Any, skipped: Skipped | None
    ) -> Generator[Result, None, None]:
        batch_size = 1 if any(source.is_camera for source in sources) else self.batch_size

        def load(item: Item | InputError) -> Waiting | InputError:
            try:
                if isinstance(item, InputError):
                    return item
                waiting = Waiting(item, self._read(item))
                if self._detector is None and not self._is_large(waiting):
                    self._prepare(waiting, find_boxes(boxes, item))
                return waiting
            except InputError as error:
                return error

        def load_ahead(item: Item | InputError) -> Waiting | InputError | Item:
            return item if self._fills_memory(item) else load(item)

        items = (item for i, source in enumerate(sources) for item in source.items(i))
        threads = min(THREADS, os.cpu_count() or 1)
        loaded = map_in_background(load_ahead, items, max(2 * batch_size, threads), threads)
        decoded = (load(one) if isinstance(one, Item) else one for one in loaded)
        good = leave_out_damaged(decoded, skipped)
        if self._detector is not None:
            good = self._with_boxes(good)
        with closing(loaded):
            yield from self._predict_all(good, batch_size)

    def _is_large(self, image: Waiting) -> bool:
        return self.tile is not None and max(image.pixels.shape[:2]) > self.tile

    def _fills_memory(self, item: Item | InputError) -> bool:
        """Whether an image is so large that no other may wait beside it."""
        if self.tile is None or isinstance(item, InputError) or item.path is None:
            return False
        return images.count_pixels(item.path) > images.MANY_PIXELS

    def _read(self, item: Item) -> np.ndarray:
        loading = self._recipe.loading
        limit = images.MAX_PIXELS if self.tile is None else images.MAX_TILED_PIXELS
        if item.path is not None:
            return images.read_image(item.path, loading, self._channels, limit)
        assert item.pixels is not None
        height, width = item.pixels.shape[:2]
        images.check_pixels(height, width, item.source, limit)
        return images.for_pipeline(item.pixels, loading, self._channels)

    def _prepare(self, image: Waiting, boxes: np.ndarray | None) -> None:
        """Runs the pipeline of an image, for each of its boxes where there are any."""
        infos = network.pipeline_infos(self._recipe, image.pixels, image.item.source, boxes)
        image.inputs = [self._pipeline(info) for info in infos]
        image.outputs = [None] * len(infos)

    def _with_boxes(self, waiting: Iterable[Waiting]) -> Iterator[Waiting]:
        """Finds the boxes of images by the detector."""
        assert self._detector is not None
        for group in in_groups(waiting, self._detector.batch_size):
            for image, found in zip(group, self._detector._predict_pixels(group)):
                scored = np.hstack([found.boxes, found.scores[:, None]]).astype(np.float32)
                self._prepare(image, scored)
                yield image

    def _predict_pixels(self, group: Sequence[Waiting]) -> list[DetectionResult]:
        """Predicts images that are decoded, here and now."""
        own = []
        for image in group:
            pixels = images.for_pipeline(image.pixels, self._recipe.loading, self._channels)
            own.append(Waiting(image.item, pixels))
            if not self._is_large(own[-1]):
                self._prepare(own[-1], None)
        return list(self._predict_all(own, self.batch_size))  # type: ignore[arg-type]

    def _predict_all(self, waiting: Iterable[Waiting], batch_size: int) -> Iterator[Result]:
        """Yields results of images in their order, of large ones by tiles."""
        for is_large, group in groupby(waiting, self._is_large):
            if is_large:
                yield from map(self._predict_tiles, group)
            else:
                yield from self._predict(group, batch_size)

    def _predict(self, waiting: Iterable[Waiting], batch_size: int) -> Iterator[Result]:
        """Yields results of prepared images in their order; a batch has images of one size."""
        queue: deque[Waiting] = deque()
        by_size: dict[tuple[int, ...], list[tuple[Waiting, int]]] = {}

        def run(size: tuple[int, ...]) -> None:
            batch = by_size.pop(size)
            predicted = self._forward([image.inputs[i] for image, i in batch])
            for (image, i), output in zip(batch, predicted):
                image.outputs[i], image.inputs[i] = output, {}

        for image in waiting:
            queue.append(image)
            for i, one in enumerate(image.inputs):
                size = tuple(one['inputs'].shape)
                batch = by_size.setdefault(size, [])
                batch.append((image, i))
                if len(batch) == batch_size:
                    run(size)
            if len(queue) >= HELD * batch_size and not queue[0].is_done:
                run(next(size for size, batch in by_size.items() if batch[0][0] is queue[0]))
            while queue and queue[0].is_done:
                yield self._result(queue.popleft())
        for size in list(by_size):
            run(size)
        yield from map(self._result, queue)

    def _predict_tiles(self, image: Waiting) -> Result:
        """Predicts an image in tiles."""
        assert self.tile is not None
        height, width = image.pixels.shape[:2]
        cuts = tiles.tiles_of(height, width, self.tile)

        def load(tile: tiles.Tile) -> Waiting:
            part = Waiting(image.item, tile.cut(image.pixels))
            self._prepare(part, None)
            return part

        threads = min(THREADS, os.cpu_count() or 1)
        loaded = map_in_background(load, cuts, self.batch_size + threads, threads)
        with closing(loaded):
            outputs = (
                output
                for group in in_groups(loaded, self.batch_size)
                for output in self._forward([part.inputs[0] for part in group])
            )
            return self._merge(image, cuts, outputs)

    def _merge(self, image: Waiting, cuts: list[tiles.Tile], outputs: Iterable[Any]) -> Result:
        """Returns one result of what the network predicts of tiles."""
        described = self._describe(image)
        found: list[Any]
        if self.task == 'detection':
            found = [self._convert([output], **described | dict(image=None)) for output in outputs]
            test_cfg = self._recipe.model.get('test_cfg') or {}
            return tiles.merge_objects(cuts, found, test_cfg, self.labels, **described)
        head = getattr(self.model, 'decode_head', None)
        merged = tiles.MergedClassMap(cuts, getattr(head, 'threshold', None) or 0.5)
        for tile, output in zip(cuts, outputs, strict=True):
            merged.add(tile, output.seg_logits.data)
        return SegmentationResult(class_map=merged.class_map, labels=self.labels, **described)

    def _forward(self, inputs: list[dict[str, Any]]) -> list[Any]:
        scope = DefaultScope.overwrite_default_scope(self._recipe.library.name)
        with torch.inference_mode(), scope, input_errors(self._recipe.source):
            return self.model.test_step(self._collate(inputs))

    def _result(self, image: Waiting) -> Result:
        return self._convert(image.outputs, **self._describe(image))

    def _describe(self, image: Waiting) -> dict[str, Any]:
        """Returns what a `Result` says of its image."""
        item = image.item
        size = image.pixels.shape[0], image.pixels.shape[1]
        return dict(
            source=item.source, name=item.name, size=size, frame=item.frame, image=image.pixels,
            group=item.group,
        )  # fmt: skip


def check_tile(tile: int | None, task: str) -> int | None:
    """Returns the size of tiles.

    Raises:
        InputError: If a task has none, or it is too small.
    """
    if tile is not None and task not in ('detection', 'segmentation'):
        raise InputError(f'tile is for detection and segmentation, not for {task}')
    if tile is not None and tile < tiles.LEAST:
        raise InputError(f'tile must be at least {tiles.LEAST} pixels, not {tile}')
    return tile


def find_boxes(boxes: Any, item: Item) -> np.ndarray | None:
    """Returns the boxes of an image, (N, 5) with their scores; None where none are given.

    Raises:
        InputError: If they are no boxes.
    """
    if isinstance(boxes, dict):
        boxes = boxes.get(item.name, boxes.get(Path(item.source).name))
        boxes = [] if boxes is None else boxes
    if boxes is None:
        return None
    try:
        found: np.ndarray = np.asarray(boxes, np.float32)
    except (TypeError, ValueError):  # rows of several lengths, or no numbers
        found = np.zeros(1, np.float32)
    if not found.size:
        return np.zeros((0, 5), np.float32)
    if found.ndim != 2 or found.shape[1] not in (4, 5):
        raise InputError(f'boxes of {item.source}: left, top, right and bottom, not {boxes!r}')
    scores = np.ones((len(found), 5 - found.shape[1]), np.float32)
    return np.hstack([found, scores])
