"""Times networks in the runtimes that they are exported to, against PyTorch, in turn."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from scopevit.benchmark.backbone_table import Case, Measurement
from scopevit.benchmark.machine import describe_machine
from scopevit.benchmark.pages import log, make_folder, make_page, page_with
from scopevit.benchmark.predict_speed import write_checkpoint
from scopevit.benchmark.timing import median_time, take_turns
from scopevit.errors import InputError, error_text
from scopevit.export import ENDINGS, export_checkpoint, metrics, runtimes, writers
from scopevit.export.exported import description_of
from scopevit.export.network import draw_examples, load_network
from scopevit.files import write_json, write_text
from scopevit.inference import Predictor
from scopevit.inference.sources import open_sources
from scopevit.report import markdown_table, number, spread

FORMATS = {'ONNX Runtime': 'onnx', 'OpenVINO': 'openvino'}
INT8 = ', 8 bits'
TORCH = ('eager', 'compiled')
FORMS = (*TORCH, *FORMATS, *(f'{name}{INT8}' for name in FORMATS))
# Images of the backbone's cases: how many, height and width.
SIZES = ((1, 256, 256), (8, 256, 256), (1, 512, 512), (1, 1024, 1024))
# Pixels of images from which a session is closed after each of its turns: those of ONNX Runtime and
# OpenVINO keep the memory that they had, and four of 1024² do not fit into 24 GB.
LARGE = 1024 * 1024
CLASSIFIER = 'scopevit-tiny_8xb128_in1k'
CALIBRATED_ON = 4  # drawn images; of random weights, 8 bits are about time alone
IMAGES = 16  # of a checkpoint's folder
ROUNDS = 5
BEGIN, END = '<!-- exports measured -->', '<!-- end of exports -->'

Make = Callable[[], Callable[[], object]]  # prepares a form, and returns what runs it


def run_export_speed(
    checkpoints: Sequence[str], images: Sequence[str], out: str, page: str | None
) -> str:
    """Measures checkpoints end to end and ScopeViT-tiny; writes, and returns, the tables.

    What a run before measured on this machine is taken from its report, in the same folder.

    Args:
        checkpoints: Files of trainings.
        images: For each, a folder of images to predict, and to calibrate 8 bits on.
        out: Folder for `report.md`, `report.json` and the exported files, which are kept.
        page: Markdown file whose tables to replace as well.

    Raises:
        InputError: If something given is wrong, before anything is measured.
    """
    if len(checkpoints) != len(images):
        raise InputError(
            f'--images: a folder for each checkpoint, {len(checkpoints)}, not {len(images)}'
        )
    writers.need('onnxruntime', 'openvino')
    if page is not None:
        page_with(page, BEGIN, END, '')
    folder = make_folder(out)
    pixels = [read_pixels(photos) for photos in images]
    made: dict[str, Callable[[], Case]] = {
        network_name(*size): partial(measure_network, *size) for size in SIZES
    }
    for checkpoint, photos, read in zip(map(Path, checkpoints), images, pixels, strict=True):
        made[checkpoint_name(checkpoint)] = partial(
            measure_checkpoint, checkpoint, photos, read, folder
        )
    machine = describe_machine('cpu')
    known = read_cases(folder / 'report.json', machine, [Path(c) for c in checkpoints])
    for name, measure_case in made.items():
        known[name] = known[name] if name in known else measure_case()
        cases = [known[other] for other in made if other in known]
        report = make_report(cases, machine, int8_rows(checkpoints, folder))
        # After each: all of them take an hour.
        write_text(folder / 'report.md', report)
        described = [{'case': c.name, **{m.form: m.failed or m.seconds for m in c.measurements}}
                     for c in known.values()]  # fmt: skip
        write_json(folder / 'report.json', {'machine': machine, 'cases': described})
    if page is not None:
        write_text(Path(page), page_with(page, BEGIN, END, report))
    return report


def read_cases(path: Path, machine: dict[str, str], checkpoints: Sequence[Path]) -> dict[str, Case]:
    """Returns by name what a report has of this machine, but for checkpoints that came after it."""
    if not path.is_file():
        return {}
    report = json.loads(path.read_text(encoding='utf-8'))
    if report['machine'] | {'date': ''} != machine | {'date': ''}:
        return {}
    written = path.stat().st_mtime
    newer = {checkpoint_name(c) for c in checkpoints if c.stat().st_mtime > written}
    cases = {}
    for described in report['cases']:
        name = described.pop('case')
        measurements = [
            Measurement(name, form, (), 0, failed=found)
            if isinstance(found, str)
            else Measurement(name, form, (), 0, seconds=found)
            for form, found in described.items()
        ]
        if name not in newer:
            cases[name] = Case(name, measurements)
    return cases


def network_name(batch_size: int, height: int, width: int) -> str:
    """Returns what the tables call ScopeViT-tiny on such images."""
    return f'ScopeViT-tiny, {height}×{width}, batch {batch_size}'


def checkpoint_name(checkpoint: Path) -> str:
    """Returns what the tables call a checkpoint."""
    return checkpoint.parent.name or checkpoint.stem


def measure(name: str, shape: tuple[int, ...], forms: dict[str, Make]) -> Case:
    """Times forms in turn; what does not run is kept with the reason."""
    case = Case(name, [Measurement(name, form, shape, 0) for form in forms])

    def turns(measurement: Measurement, make: Make) -> Iterator[None]:
        log(f'preparing {name}, {measurement.form}')
        reopens = shape[1] * shape[2] >= LARGE and measurement.form not in TORCH
        run: Callable[[], object] | None = opened(make)
        while True:
            if reopens:
                run = None
            yield
            run = run or opened(make)
            measurement.seconds.append(median_time(run) / shape[0])

    def failed(index: int, error: Exception) -> None:
        case.measurements[index].seconds.clear()
        case.measurements[index].failed = error_text(error)

    candidates = [turns(m, make) for m, make in zip(case.measurements, forms.values())]
    take_turns(name, candidates, failed, rounds=ROUNDS)
    return case


def opened(make: Make) -> Callable[[], object]:
    """Makes a form and runs it once."""
    run = make()
    run()
    return run


def read_pixels(images: str) -> list[np.ndarray]:
    """Reads the first images of a folder, BGR.

    Raises:
        InputError: If there are none.
    """
    items = [item for source in open_sources(images) for item in source.items(0)]
    paths = [item.path for item in items if not isinstance(item, InputError) and item.path]
    read = (cv2.imread(str(path)) for path in paths[:IMAGES])
    found: list[np.ndarray] = [image for image in read if image is not None]
    if not found:
        raise InputError(f'--images takes images, and {images} has none')
    return found


def measure_checkpoint(
    checkpoint: Path, images: str, pixels: Sequence[np.ndarray], folder: Path
) -> Case:
    """Times a checkpoint end to end, from images in memory to results; exports go to a folder."""

    def predict(predictor: Predictor) -> None:
        for _ in predictor.stream(list(pixels)):
            pass

    def make(path: Callable[[], Path], **options: Any) -> Callable[[], object]:
        return partial(predict, Predictor(path(), 'cpu', **options))

    forms: dict[str, Make] = {
        'eager': lambda: make(lambda: checkpoint),
        'compiled': lambda: make(lambda: checkpoint, compile=True),
    }
    for int8 in (False, True):
        for name, format in FORMATS.items():
            export = partial(export_once, checkpoint, format, images, int8, folder)
            forms[f'{name}{INT8 * int8}'] = partial(make, export)
    shape = (len(pixels), *pixels[0].shape)
    return measure(checkpoint_name(checkpoint), shape, forms)


def export_once(checkpoint: Path, format: str, images: str, int8: bool, folder: Path) -> Path:
    """Exports a checkpoint, unless that is done already; returns the file."""
    path = export_path(checkpoint, format, int8, folder)
    if not path.is_file() or path.stat().st_mtime < checkpoint.stat().st_mtime:
        export_checkpoint(checkpoint, format, path, images=images, int8=int8)
    return path


def export_path(checkpoint: Path, format: str, int8: bool, folder: Path) -> Path:
    """Returns where a form of a checkpoint is."""
    return folder / f'{checkpoint.parent.name}_{checkpoint.stem}{"_int8" * int8}{ENDINGS[format]}'


def measure_network(batch_size: int, height: int, width: int) -> Case:
    """Times ScopeViT-tiny's classifier with random weights on images that are there."""
    from scopevit.export import quantize  # which imports onnx

    shape = (batch_size, height, width, 3)
    batch = draw_examples(max(batch_size, 2), (height, width), 3)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        net = load_network(write_checkpoint(CLASSIFIER, folder), None, (height, width))
        graph, path = net.graph(), folder / 'float.onnx'
        program = writers.trace(graph, torch.from_numpy(batch), dynamic=False)
        writers.write_onnx(program, graph.outputs, writers.OPSET, path)
        small = folder / 'int8.onnx'
        photos = list(draw_examples(CALIBRATED_ON, (height, width), 3))
        quantize.make_quantizer(path, photos).save(set(), small)

        def call(session: runtimes.Session) -> Callable[[], object]:
            return partial(session, batch[:batch_size])

        def compiled() -> Callable[[], object]:
            module = torch.compile(graph, dynamic=False)
            run = call(runtimes.graph_session(module, graph.outputs))
            with torch._inductor.config.patch(freezing=True):  # as in backbone_speed.py
                run()
            return run

        openers = {'ONNX Runtime': runtimes.open_onnx, 'OpenVINO': runtimes.open_openvino}
        forms: dict[str, Make] = {
            'eager': lambda: partial(net.predict, batch[:batch_size]),
            'compiled': compiled,
        }
        for end, file in (('', path), (INT8, small)):
            for runtime, opener in openers.items():
                forms[f'{runtime}{end}'] = partial(
                    lambda opener, file: call(opener(file, graph.outputs)), opener, file
                )
        return measure(network_name(batch_size, height, width), shape, forms)


def int8_rows(checkpoints: Sequence[str], folder: Path) -> list[list[str]]:
    """Returns what the descriptions of 8-bit files in a folder say of layers, answers, metrics."""
    rows = []
    for checkpoint in map(Path, checkpoints):
        for name, format in FORMATS.items():
            path = description_of(export_path(checkpoint, format, True, folder))
            if not path.is_file():
                continue
            described = json.loads(path.read_text(encoding='utf-8'))
            int8, judged = described['int8'], described.get('metrics')
            kept = len(int8['layers in float'])
            worst, points = metrics.largest_loss(judged) if judged else ('', 0.0)
            rows.append([
                checkpoint_name(checkpoint),
                name,
                f'{int8["layers in 8 bits"]} of {int8["layers in 8 bits"] + kept}',
                f'{int8["share of changed answers"]:.1%}',
                f'{round(-points, 2) + 0.0:+.2f} ({worst})' if judged else 'not measured',
            ])  # fmt: skip
    return rows


def make_report(
    cases: Sequence[Case], machine: dict[str, str], int8: Sequence[Sequence[str]] = ()
) -> str:
    """Returns the tables of cases, of 8-bit files (see `int8_rows`) and of the machine."""
    columns = ['case', *(f'{form} (ms)' for form in FORMS)]
    times, ratios = [], []
    for case in cases:
        known = {m.form: m for m in case.measured}
        eager = known.get('eager')
        times.append(
            [case.name, *(number(1e3 * known[f].median) if f in known else '' for f in FORMS)]
        )
        others = islice(FORMS, 1, None)
        ratios.append(
            [case.name, *(spread(known[f].speedup(eager)) if f in known and eager else ''
                          for f in others)]
        )  # fmt: skip
    failed = [f'{case.name}, {m.form}: {m.failed}' for case in cases for m in case.failed]
    parts = [
        'Milliseconds an image:\n',
        markdown_table(columns, times, 'l' + 'r' * len(FORMS)),
        'Times as fast as eager:\n',
        markdown_table(['case', *FORMS[1:]], ratios, 'l' + 'r' * (len(FORMS) - 1)),
    ]
    if int8:
        head = ['case', 'runtime', 'layers in 8 bits', 'answers changed', 'worst metric, points']
        parts += ['What 8 bits change:\n', markdown_table(head, int8, 'llrrl')]
    return make_page(parts, failed, machine)
