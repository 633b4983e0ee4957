"""Times the pipeline of a recipe's training data, step by step, against what the model takes."""

import copy
import logging
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine import fileio
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, FUNCTIONS, TRANSFORMS, DefaultScope
from torch.utils.data import DataLoader, Dataset

from scopevit.benchmark.drawn_annotations import SCOPES, annotate, photographs
from scopevit.benchmark.machine import available_devices, describe_machine
from scopevit.benchmark.pages import log, make_folder, make_page, page_with
from scopevit.benchmark.timing import median_time, quartiles, synchronize, take_turns
from scopevit.engine.batches import seed_all
from scopevit.engine.checks.data import check_dataset_files
from scopevit.engine.config import load_config, require, set_loader_defaults
from scopevit.engine.libraries import find_library
from scopevit.engine.model import build_model
from scopevit.engine.walk import type_name
from scopevit.errors import InputError
from scopevit.files import write_json, write_text
from scopevit.report import markdown_table, number, size_text, spread

ROUNDS = 7
WORKER_ROUNDS = 3  # of DataLoaders, which take longer
SAMPLES = 54  # of a visit, each with random numbers of its own
WORKERS = (1, 2)
BATCHES = 3  # that a worker loads while it is timed
WORKER_BATCH = 32  # at most: rates do not depend on it, and starts take long
GPUS = (1, 8, 64)
CPU_BATCH = 8  # of the model's step, where there is no GPU
# By task, so that a page has a place for each.
MARKS = {
    'classification': ('<!-- data measured -->', '<!-- end of data -->'),
    'detection': ('<!-- data of objects measured -->', '<!-- end of data of objects -->'),
    'segmentation': ('<!-- data of segments measured -->', '<!-- end of data of segments -->'),
    'pose': ('<!-- data of poses measured -->', '<!-- end of data of poses -->'),
}
OURS, LIBRARYS = 'recipe', "library's own steps"


@dataclass
class Pipeline:
    """A pipeline, and what was measured of it.

    Attributes:
        name: What the tables call it.
        steps: Transforms, in their order.
        collate: Makes a batch of samples.
        seconds: By part, of an image, one a round; the rounds of all pipelines belong together.
        rates: Images a second that some number of workers deliver, one a round.
    """

    name: str
    steps: list[Callable]
    collate: Callable
    seconds: dict[str, list[float]] = field(default_factory=dict)
    rates: dict[int, list[float]] = field(default_factory=dict)

    def load(self, info: dict[str, Any], place: tuple[int, ...]) -> Any:
        """Makes the sample of some random numbers."""
        seed_all(place)
        sample: Any = copy.deepcopy(info)
        for step in self.steps:
            sample = step(sample)
        return sample

    @property
    def totals(self) -> list[float]:
        """Seconds an image, one a round."""
        return [sum(parts) for parts in zip(*self.seconds.values())]

    @property
    def rate(self) -> float:
        """Images a second on one core."""
        return 1 / statistics.median(self.totals)


class Samples(Dataset[Any]):
    """The samples of a pipeline, as a DataLoader's workers ask for them."""

    def __init__(self, pipeline: Pipeline, infos: Sequence[dict[str, Any]], count: int) -> None:
        self.pipeline, self.infos, self.count = pipeline, infos, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.pipeline.load(self.infos[index % len(self.infos)], (0, index))


def run_data_speed(
    config: str,
    images: str | None,
    gpu_rate: float | None,
    out: str,
    page: str | None,
    cfg_options: dict[str, Any] | None = None,
) -> str:
    """Measures a recipe's pipeline; writes, and returns, the tables.

    Args:
        config: The recipe.
        images: Folder of photographs in place of the recipe's own data set, annotated at random.
        gpu_rate: Images a second that one GPU trains on, as somebody measured it.
        out: Folder for `report.md` and `report.json`.
        page: Markdown file whose tables to replace as well.
        cfg_options: Changes of the config.

    Raises:
        InputError: If something given is wrong, before anything is measured.
    """
    if gpu_rate is not None and not (gpu_rate > 0 and math.isfinite(gpu_rate)):
        raise InputError(f'--gpu-images-per-second must be above 0, not {gpu_rate:g}')
    cfg = load_config(config, cfg_options)
    require(cfg, 'model', 'train_dataloader', 'optim_wrapper')
    library = find_library(cfg.get('default_scope'))
    begin, end = MARKS[library.task]
    if page is not None:
        page_with(page, begin, end, '')
    set_loader_defaults(cfg, library)
    with DefaultScope.overwrite_default_scope(library.name):
        paths = photographs(images, cfg) if images else []
        infos = [] if images else own_samples(cfg)
        pipelines = build_pipelines(cfg)
        folder = make_folder(out)
        chosen = [paths[index] for index in spread_indices(len(paths))]
        infos = infos or annotate(chosen, cfg, folder / 'labels')
        with one_thread():
            measure_pipelines(pipelines, infos)
        measure_workers(pipelines, infos, min(WORKER_BATCH, cfg.train_dataloader.batch_size))
        device = available_devices()[-1]
        model_rate, batch_size = measure_model(cfg, pipelines[0], infos, device)
    if gpu_rate is None and device == 'cuda':
        gpu_rate = model_rate
    machine = describe_machine(device)
    about = f'{Path(config).stem}: {describe_images(infos)}.'
    step = (
        f'A training step of {batch_size} images takes {number(1e3 * batch_size / model_rate)} ms'
    )
    step += f' on this machine ({device}), {number(model_rate)} images a second.'
    report = make_report(pipelines, [about, step], gpu_rate, machine)
    write_text(folder / 'report.md', report)
    told = {p.name: {'seconds': p.seconds, 'workers': p.rates} for p in pipelines}
    described = {'model images a second': model_rate, 'pipelines': told, 'machine': machine}
    write_json(folder / 'report.json', described)
    if page is not None:
        write_text(Path(page), page_with(page, begin, end, report))
    return report


def own_samples(cfg: Config) -> list[dict[str, Any]]:
    """Returns samples of the recipe's training data, spread over it, as its pipeline gets them.

    Raises:
        InputError: If the data set is not there.
    """
    key = 'train_dataloader.dataset'
    try:
        check_dataset_files(cfg.train_dataloader.dataset, key, cfg.default_scope)
    except InputError as error:
        advice = '; --images DIR takes photographs instead' * (cfg.default_scope in SCOPES)
        raise InputError(f'{error}{advice}') from error
    dataset: Any = DATASETS.build(copy.deepcopy(cfg.train_dataloader.dataset))
    if not hasattr(dataset, 'get_data_info'):
        raise InputError(f'{key}: {type_name(cfg.train_dataloader.dataset)} has no single samples')
    return [dataset.get_data_info(index) for index in spread_indices(len(dataset))]


def spread_indices(count: int) -> list[int]:
    """Returns `SAMPLES` indices, or as many as there are, spread evenly."""
    return [int(index) for index in np.linspace(0, count - 1, min(SAMPLES, count))]


def build_pipelines(cfg: Config) -> list[Pipeline]:
    """Returns the recipe's pipeline and, where steps of ours are in it, that of the library."""
    steps = cfg.train_dataloader.dataset.get('pipeline')
    if not steps:
        raise InputError(f'{cfg.filename}: train_dataloader.dataset.pipeline is missing')
    kind = cfg.train_dataloader.get('collate_fn') or dict(type='pseudo_collate')
    kind = copy.deepcopy(dict(kind))
    collate: Any = FUNCTIONS.get(kind.pop('type'))

    def build(name: str, steps: list[dict[str, Any]]) -> Pipeline:
        return Pipeline(name, [TRANSFORMS.build(copy.deepcopy(step)) for step in steps], collate)

    theirs = [{key: library_name(value) for key, value in step.items()} for step in steps]
    made = [build(OURS, steps)]
    if theirs != list(steps):
        made.append(build(LIBRARYS, theirs))
    return made


def library_name(value: Any) -> Any:
    """Returns a value of a config; of the name of a step of ours, the library's."""
    return value.removeprefix('scopevit/') if isinstance(value, str) else value


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets OpenCV and torch do with one thread, as they do in a DataLoader's workers."""
    threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads[0])
        torch.set_num_threads(threads[1])


def measure_pipelines(pipelines: Sequence[Pipeline], infos: Sequence[dict[str, Any]]) -> None:
    """Times the parts of pipelines in turn; in a round, all get the same random numbers."""

    def turns(pipeline: Pipeline) -> Iterator[None]:
        visit(pipeline, infos, 0)
        for round in range(ROUNDS + 1):
            yield
            for part, seconds in visit(pipeline, infos, round).items():
                pipeline.seconds.setdefault(part, []).append(seconds)

    take_turns('steps', map(turns, pipelines), fail, rounds=ROUNDS)


def fail(_: int, error: Exception) -> None:
    raise error


def visit(pipeline: Pipeline, infos: Sequence[dict[str, Any]], round: int) -> dict[str, float]:
    """Returns the seconds that the parts of a pipeline take for an image, by their names."""
    names = part_names(pipeline)
    seconds, samples = dict.fromkeys(names, 0.0), []
    for place in range(SAMPLES):
        info = infos[place % len(infos)]
        begin = time.perf_counter()
        fileio.get(info['img_path'])
        reading = time.perf_counter() - begin
        sample: Any = copy.deepcopy(info)
        seed_all((round, place))
        times = [reading]
        for step in pipeline.steps:
            begin = time.perf_counter()
            sample = step(sample)
            times.append(time.perf_counter() - begin)
        times[1] -= reading  # of the step that reads and decodes
        for name, spent in zip(names, times):
            seconds[name] += spent
        samples.append(sample)
    begin = time.perf_counter()
    pipeline.collate(samples)
    seconds[names[-1]] = time.perf_counter() - begin
    return {name: spent / SAMPLES for name, spent in seconds.items()}


def part_names(pipeline: Pipeline) -> list[str]:
    """Returns what a pipeline consists of; its first step reads and decodes."""
    names = [type(step).__name__ for step in pipeline.steps[1:]]
    return ['read', 'decode', *(f'{i} {name}' for i, name in enumerate(names, 2)), 'collate']


def measure_workers(
    pipelines: Sequence[Pipeline], infos: Sequence[dict[str, Any]], batch_size: int
) -> None:
    """Takes the images a second of DataLoaders with several numbers of workers, in turn."""

    def turns(pipeline: Pipeline, workers: int) -> Iterator[None]:
        while True:
            yield
            rate = loader_rate(pipeline, infos, batch_size, workers)
            pipeline.rates.setdefault(workers, []).append(rate)

    pairs = [(pipeline, workers) for workers in WORKERS for pipeline in pipelines]
    take_turns('workers', [turns(*pair) for pair in pairs], fail, rounds=WORKER_ROUNDS)


def loader_rate(
    pipeline: Pipeline, infos: Sequence[dict[str, Any]], batch_size: int, workers: int
) -> float:
    """Returns the images a second of a DataLoader once each of its workers has made a batch."""
    samples = Samples(pipeline, infos, (1 + BATCHES) * workers * batch_size)
    loader = DataLoader(
        samples, batch_size=batch_size, num_workers=workers, collate_fn=pipeline.collate
    )
    batches = iter(loader)
    for _ in islice(batches, workers):
        pass
    begin = time.perf_counter()
    count = sum(1 for _ in batches)
    return count * batch_size / (time.perf_counter() - begin)


def measure_model(
    cfg: Config, pipeline: Pipeline, infos: Sequence[dict[str, Any]], device: str
) -> tuple[float, int]:
    """Returns the images a second of the recipe's training step, and of what batch."""
    full = cfg.train_dataloader.batch_size
    batch_size = full if device == 'cuda' else min(full, CPU_BATCH)
    log(f'a training step of {batch_size} images on {device}')
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)  # else it tells of every parameter
    model: Any = build_model(cfg).to(device).train()
    wrapper = build_optim_wrapper(model, copy.deepcopy(cfg.optim_wrapper))
    logger.setLevel(level)
    samples = [pipeline.load(infos[i % len(infos)], (0, i)) for i in range(batch_size)]

    def step() -> None:
        model.train_step(pipeline.collate(samples), wrapper)
        synchronize(device)

    step()
    times = [median_time(step) for _ in range(ROUNDS)]
    return batch_size / statistics.median(times), batch_size


def describe_images(infos: Sequence[dict[str, Any]]) -> str:
    """Says how many images there are, and of what size."""
    paths = list(dict.fromkeys(info['img_path'] for info in infos))
    shapes = [image.shape[1::-1] for path in paths if (image := cv2.imread(path)) is not None]
    sizes = sorted(shapes, key=math.prod)
    mean = statistics.fmean(Path(path).stat().st_size for path in paths) / 1e3
    return (
        f'{len(paths)} images of {size_text(sizes[0])} to {size_text(sizes[-1])} pixels, '
        f'{size_text(sizes[len(sizes) // 2])} in the middle, {number(mean)} kB on average'
    )


def cores_needed(gpus: int, gpu_rate: float, core_rate: float) -> int:
    """Returns how many cores keep GPUs busy that take some images a second each."""
    return math.ceil(gpus * gpu_rate / core_rate)


def make_report(
    pipelines: Sequence[Pipeline],
    lines: Sequence[str],
    gpu_rate: float | None,
    machine: dict[str, str],
) -> str:
    """Returns the tables of pipelines, what a GPU takes and the machine."""
    ours, names = pipelines[0], [p.name for p in pipelines]
    compared = len(pipelines) > 1
    columns = [*names, *['times as fast'] * compared]
    rows = []
    for i, part in enumerate(ours.seconds):
        cells = [list(p.seconds.values())[i] for p in pipelines]
        rows.append(row(part.partition(' ')[2] or part, cells, 1e3))
    rows.append(row('an image', [p.totals for p in pipelines], 1e3))
    parts = ['\n\n'.join(lines) + '\n', 'Milliseconds an image on one core:\n']
    parts.append(markdown_table(['step', *columns], rows))
    rates = [row('one core', [[1 / s for s in p.totals] for p in pipelines], 1)]
    for workers in ours.rates:
        name = f'{workers} worker{"s" * (workers > 1)}'
        rates.append(row(name, [p.rates[workers] for p in pipelines], 1))
    parts += ['Images a second:\n', markdown_table(['delivered by', *columns], rates)]
    if gpu_rate is None:
        parts.append('What a GPU takes is not known here: `--gpu-images-per-second` says it.\n')
    else:
        parts.append(f'Cores for GPUs that take {number(gpu_rate)} images a second each:\n')
        needed = [[str(gpus), *(str(cores_needed(gpus, gpu_rate, p.rate)) for p in pipelines)]
                  for gpus in GPUS]  # fmt: skip
        parts.append(markdown_table(['GPUs', *names], needed, 'r' * (1 + len(names))))
    return make_page(parts, [], machine)


def row(name: str, values: Sequence[Sequence[float]], scale: float) -> list[str]:
    """Returns a row of medians and, of two pipelines, how many times as fast the first one is."""
    cells = [number(scale * statistics.median(v)) for v in values]
    if len(values) > 1:
        ours, theirs = values
        # Seconds are more where rates are less.
        pairs = [(t / o if scale > 1 else o / t) for o, t in zip(ours, theirs)]
        cells.append(spread(quartiles(pairs)))
    return [name, *cells]
