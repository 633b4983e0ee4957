"""The predictions of many recipes, as a table for a page."""

import dataclasses
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from scopevit.benchmark.fake_cuda import check_cuda_code
from scopevit.benchmark.networks import TASKS, find_recipes
from scopevit.benchmark.pages import log, make_folder, page_with
from scopevit.benchmark.predict import GPUS, Prediction, predict_step
from scopevit.compat.external_configs import CONFIGS
from scopevit.engine.config import load_config
from scopevit.errors import InputError
from scopevit.files import write_json, write_text
from scopevit.report import markdown_table, number, size_text

PAGE_BEGIN, PAGE_END = '<!-- predicted -->\n', '<!-- end of predicted -->'
# `predict_step` refuses them: what they compute depends on numbers.
UNPREDICTED = ('dino', 'mask2former')
PRECISIONS = {'float32': False, 'AMP': True}
NOTE = """\
All of this is **predicted by `tools/benchmark/predict.py`, nothing of it was measured**: forward
and backward pass of a training step were followed operator by operator on tensors without numbers.

Peak memory is what torch's allocator hands out at one time, as `torch.cuda.max_memory_allocated()`
tells: weights, the optimizer's numbers, images, activations, gradients, and the losses of logits in
segmentation and RetinaNet; two-stage detectors have as many boxes as their samplers take at most.
DINO and Mask2Former are missing: what they compute depends on numbers. Not in the peak are the
other losses, annotations, what detectors assign and propose, workspaces of cuDNN and cuBLAS,
scratch space inside of kernels, the buckets of several processes (once the gradients), and beyond
that allocator its fragmentation and the CUDA context, some 0.5 to 1 GiB.

Images a second are an **upper bound**: the batch over the time that a GPU's bandwidth takes for
what every operator reads and writes, or its tensor cores for all multiply-adds, whichever is
longer. Bandwidths and rates are those of data sheets, of dense matrices:

{gpus}
What launching an operator takes, some microseconds of a CPU, is not in it, nor is loading data:
where a step has thousands of operators for a few small images, it stays far below. Maps small
enough to stay in a cache from one operator to the next are the one reason to exceed it.
"""


def run_predict(
    configs: Sequence[str], size: tuple[int, int] | None, out: str, page: str | None
) -> str:
    """Writes `predict.md`, which it returns, and `predict.json`; the arguments are the tool's.

    Raises:
        InputError: If something given is wrong, or a recipe cannot be predicted; nothing is
            written then.
    """
    check_cuda_code()
    ours = [path for path in our_recipes() if not path.name.startswith(UNPREDICTED)]
    recipes = find_recipes(configs) if configs else ours
    folder = make_folder(out)
    if page:
        page_with(page, PAGE_BEGIN, PAGE_END, '')  # an error now rather than after minutes
    predictions = []
    for prediction in predict_files(recipes, size):
        predictions.append(prediction)
        log(f'predicted: {prediction.name}')
    report = make_report(predictions)
    write_text(folder / 'predict.md', report)
    write_json(folder / 'predict.json', [dataclasses.asdict(one) for one in predictions])
    if page:
        write_text(page, page_with(page, PAGE_BEGIN, PAGE_END, report))
    return report


def our_recipes() -> list[Path]:
    """Returns the configs of ScopeViT in the folders of the four tasks."""
    return [path for task in TASKS.values() for path in sorted((CONFIGS / task).glob('*.py'))]


def predict_files(recipes: Sequence[Path], size: tuple[int, int] | None) -> Iterator[Prediction]:
    """Yields the predictions of config files in their order, made on all processors."""
    predict = partial(predict_file, size=size)
    workers = min(len(recipes), len(os.sched_getaffinity(0)))
    if workers == 1:
        yield from map(predict, recipes)
        return
    with ProcessPoolExecutor(workers, multiprocessing.get_context('spawn')) as pool:
        try:
            yield from pool.map(predict, recipes)
        except InputError:
            pool.shutdown(cancel_futures=True)
            raise


def predict_file(recipe: Path, size: tuple[int, int] | None) -> Prediction:
    """Predicts one config file; see `predict_step`."""
    return predict_step(load_config(recipe), size)


def make_report(predictions: Sequence[Prediction]) -> str:
    """Returns the table with what must be said of it, in Markdown."""
    gpus = ''.join(
        f'- {gpu.name}: {gpu.bandwidth / 1e12:.2f} TB/s, {gpu.half_rate / 1e12:.0f} TFLOP/s in '
        f'float16, {gpu.float_rate / 1e12:.0f} TFLOP/s in float32 with products in TF32\n'
        for gpu in GPUS
    )
    return f'{predictions_table(predictions)}\n{NOTE.format(gpus=gpus)}'


def predictions_table(predictions: Sequence[Prediction]) -> str:
    """Returns the Markdown table of predictions."""
    columns = ['recipe', 'input', 'batch a GPU', 'operators, float32 / AMP']
    columns += [f'peak memory predicted, {name} (GiB)' for name in PRECISIONS]
    columns += [f'{gpu.name}, {name}: images/s at most' for gpu in GPUS for name in PRECISIONS]
    cells = []
    for one in predictions:
        row = [one.name, size_text(one.shape[1:]), str(one.batch_size)]
        row.append(' / '.join(str(one.cost(amp).operators) for amp in PRECISIONS.values()))
        row += [number(one.cost(amp).peak_bytes / 2**30) for amp in PRECISIONS.values()]
        row += [
            number(one.images_per_second(gpu, amp)) for gpu in GPUS for amp in PRECISIONS.values()
        ]
        cells.append([*row, limits_text(one)])
    return markdown_table([*columns, 'limited by'], cells, align='ll' + 'r' * 8 + 'l')


def limits_text(prediction: Prediction) -> str:
    """Returns what limits the images a second, and where it is another limit."""
    limits = {
        f'{gpu.name} {name}': prediction.limit(gpu, amp)
        for gpu in GPUS
        for name, amp in PRECISIONS.items()
    }
    arithmetic = [case for case, limit in limits.items() if limit == 'arithmetic']
    if len(arithmetic) in (0, len(limits)):
        return 'arithmetic' if arithmetic else 'bandwidth'
    return f'bandwidth; {", ".join(arithmetic)}: arithmetic'
