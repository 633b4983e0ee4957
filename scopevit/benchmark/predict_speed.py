"""Times `Predictor` on many images against what it cannot do without: decoding, and the network."""

import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
from mmengine.registry import DATASETS, DefaultScope

from scopevit.benchmark.timing import synchronize
from scopevit.engine.libraries import find_library
from scopevit.engine.model import build_model
from scopevit.hub import get_config
from scopevit.inference import Predictor

SIZE = (480, 640)  # height and width of the images
ROUNDS = 3


@dataclass(frozen=True)
class PredictSpeed:
    """What prediction takes of some images, in seconds, each the median of the rounds.

    Attributes:
        images: How many.
        decoding: Of decoding all of them, one after the other.
        network: Of the bare network on batches that are there.
        predictor: Of `Predictor.stream`, from files to results.
        memory: Growth of the process's largest memory in MiB, from a quarter of the images to all.
    """

    images: int
    decoding: float
    network: float
    predictor: float
    memory: float

    @property
    def ratio(self) -> float:
        """Time of the predictor over that of what it cannot do without."""
        return self.predictor / (self.decoding + self.network)


def measure_predict(
    name: str, images: int, batch_size: int, device: str, rounds: int = ROUNDS
) -> PredictSpeed:
    """Times prediction by a recipe with random weights; the three parts take turns.

    Args:
        name: Name of a config that comes with the package.
        images: How many images, of 640 x 480.
        batch_size: Images a batch.
        device: Where the network runs.
        rounds: How often.
    """
    with tempfile.TemporaryDirectory() as folder:
        predictor = Predictor(write_checkpoint(name, Path(folder)), device, batch_size)
        paths = list(write_images(Path(folder), images))
        run(predictor, paths[:batch_size])
        quarter = run_and_measure(predictor, paths[: images // 4])
        whole = run_and_measure(predictor, paths)
        parts: dict[str, Callable[[], object]] = {
            'decoding': lambda: [cv2.imread(path) for path in paths],
            'network': bare_network(predictor, paths[:batch_size], images),
            'predictor': lambda: run(predictor, paths),
        }
        seconds: dict[str, list[float]] = {part: [] for part in parts}
        for _ in range(rounds):
            for part, call in parts.items():
                start = time.perf_counter()
                call()
                synchronize(device)
                seconds[part].append(time.perf_counter() - start)
    times = {part: median(values) for part, values in seconds.items()}
    return PredictSpeed(images, **times, memory=whole - quarter)


def write_checkpoint(name: str, folder: Path) -> Path:
    """Writes a checkpoint of a recipe, as a training would."""
    cfg = get_config(name)
    find_library(cfg.default_scope)
    model = build_model(cfg)
    metainfo = {}
    if cfg.default_scope == 'mmpose':  # whose keypoints flip_test must know
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            metainfo = DATASETS.build(dict(cfg.test_dataloader.dataset, lazy_init=True)).metainfo
    path = folder / 'random.pth'
    meta = {'cfg': cfg.pretty_text, 'dataset_meta': metainfo}
    torch.save({'meta': meta, 'state_dict': model.state_dict()}, path)
    return path


def write_images(folder: Path, number: int) -> Iterator[str]:
    """Writes JPEG files with the detail of a photograph; yields their paths."""
    rng = np.random.default_rng(0)
    for i in range(number):
        coarse = rng.integers(0, 256, (15, 20, 3), np.uint8)
        smooth = cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC).astype(np.int16)
        noisy = smooth + rng.integers(-12, 13, smooth.shape, np.int16)
        path = str(folder / f'{i:06d}.jpg')
        cv2.imwrite(path, noisy.clip(0, 255).astype(np.uint8))
        yield path


def run(predictor: Predictor, paths: list[str]) -> None:
    """Predicts files, and keeps nothing."""
    for _ in predictor.stream(paths):
        pass


def run_and_measure(predictor: Predictor, paths: list[str]) -> float:
    """Predicts files; returns the largest memory that the process has had, in MiB."""
    run(predictor, paths)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bare_network(predictor: Predictor, paths: list[str], images: int) -> Callable[[], None]:
    """Returns what runs the network on as many images, in batches that are there."""
    batches: list[torch.Tensor] = []
    model = predictor.model
    with observe_inputs(model, batches):
        run(predictor, paths)
    batch = batches[0]

    def call() -> None:
        with torch.inference_mode():
            for start in range(0, images, len(batch)):
                model(batch[: images - start], mode='tensor')

    return call


@contextmanager
def observe_inputs(model: torch.nn.Module, batches: list[torch.Tensor]) -> Iterator[None]:
    """Collects the batches that reach a network."""
    backbone = model.get_submodule('backbone')
    handle = backbone.register_forward_pre_hook(lambda _, args: batches.append(args[0]))
    try:
        yield
    finally:
        handle.remove()
