"""Checks of data sets: of their files before a run starts, and of what was loaded from them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmengine.config import Config
from torch import nn

from scopevit.engine.checks.coco import CocoFile, read_coco
from scopevit.engine.checks.ids import check_ids
from scopevit.engine.checks.metainfo import check_categories, check_metainfo, dataset_classes
from scopevit.engine.walk import leaf_configs, type_name
from scopevit.errors import InputError


def check_files(cfg: Config, *modes: str) -> None:
    """Checks the files of the data sets and metrics of 'train', 'val' or 'test'."""
    for mode in modes:
        dataset = (cfg.get(f'{mode}_dataloader') or {}).get('dataset', {})
        check_dataset_files(dataset, f'{mode}_dataloader.dataset', cfg.default_scope)
        metrics = cfg.get(f'{mode}_evaluator') or []
        metrics = metrics if isinstance(metrics, (list, tuple)) else [metrics]
        if mode == 'test':  # of a training, scopevit/preflight tells it
            evaluates = any(not metric.get('format_only') for metric in metrics)
            key = f'{mode}_dataloader.dataset.ann_file'
            check_tested(dataset, key, cfg.default_scope, evaluates)
        for metric in metrics:
            path, key = metric.get('ann_file'), f'{mode}_evaluator.ann_file'
            if isinstance(path, str) and path:
                coco = check_annotation_file(Path(path), key)
                evaluates = 'type' in metric and not metric.get('format_only')
                # Of the file of a training's own data set, scopevit/preflight tells it.
                is_told = mode != 'test' and Path(path) in annotation_files(dataset)
                if coco and evaluates and not is_told and type_name(metric) == 'CocoMetric':
                    check_annotated(coco, Path(path), key)
                    check_ids(coco, Path(path), cfg.default_scope)


def check_tested(dataset: dict[str, Any], key: str, scope: str, evaluates: bool) -> None:
    """Raises an InputError where ids in COCO files of a test would lose images or annotations."""
    for path in annotation_files(dataset):
        if path.suffix == '.json' and path.is_file():
            coco = read_coco(path, key)
            if coco.is_coco:
                check_ids(coco, path, scope, evaluates)


def annotation_files(cfg: dict[str, Any]) -> list[Path]:
    """Returns the annotation files of a data set."""
    leaves = [leaf for leaf in leaf_configs(cfg) if isinstance(leaf.get('ann_file'), str)]
    return [Path(leaf.get('data_root') or '', leaf['ann_file']) for leaf in leaves]


def check_dataset_files(cfg: dict[str, Any], key: str, scope: str) -> None:
    """Checks the metainfo of a data set, that its files are there, and that its classes are theirs.

    `key` is where it is in the config, for messages, `scope` the library whose types are meant.

    Raises:
        InputError: If a file or folder is missing, an annotation file is not JSON, or its
            categories are not the classes of the data set, or its metainfo has an error.
    """
    for leaf in leaf_configs(cfg):
        check_metainfo(leaf, key, scope)
        if leaf.get('backend_args') and leaf['backend_args'].get('backend', 'local') != 'local':
            continue  # files on a server; missing ones are reported when they are read
        root = leaf.get('data_root') or ''
        prefix = leaf.get('data_prefix') or {}
        folders = prefix if isinstance(prefix, dict) else {'data_prefix': prefix}
        if isinstance(root, str) and root and not Path(root).is_dir():
            raise InputError(f'folder not found: {root} ({key}.data_root)')
        for name, folder in folders.items():
            if isinstance(folder, str) and folder and not Path(root, folder).is_dir():
                raise InputError(f'folder not found: {Path(root, folder)} ({key}, {name})')
        for name in ('ann_file', 'bbox_file'):
            path = leaf.get(name)
            if isinstance(path, str) and path:
                # A box file is joined to no root.
                path = Path(root, path) if name == 'ann_file' else Path(path)
                check_annotation_file(path, f'{key}.{name}', leaf, scope)


def check_annotation_file(
    path: Path, key: str, dataset_cfg: dict[str, Any] | None = None, scope: str = ''
) -> CocoFile | None:
    """Checks that an annotation file is there and, where it is COCO's, agrees with the classes.

    Returns what it has if it is COCO's.
    """
    if not path.exists():
        raise InputError(f'annotation file not found: {path} ({key})')
    if path.suffix != '.json':
        return None
    coco = read_coco(path, key)
    classes = dataset_classes(dataset_cfg, scope) if dataset_cfg else []
    # Test sets that are evaluated elsewhere come without annotations.
    missing = [name for name in ('images', 'categories') if name not in coco.keys]
    if missing and classes and 'data_list' not in coco.keys:
        raise InputError(f'not COCO annotations, no {", ".join(missing)}: {path} ({key})')
    if missing:
        return None  # another format, which its library reads
    lengths = set(coco.keypoint_lengths)
    if len(lengths) > 1 or any(length % 3 for length in lengths):
        raise InputError(
            f'keypoint lists must have one length, 3 x keypoints, not {sorted(lengths)}: {path}'
        )
    if dataset_cfg and classes:
        check_categories(coco, classes, dataset_cfg, path, key.rpartition('.')[0])
    return coco


def check_annotated(coco: CocoFile, path: Path, key: str) -> None:
    """Raises an InputError where a COCO file has nothing to compare with: its mAP would be -1."""
    if not coco.ids:
        raise InputError(
            f'{path} has no annotations ({key}), so there is nothing to compare predictions with: '
            'name a file that has, or set format_only=True and outfile_prefix in the evaluator to '
            'write the predictions alone'
        )
    if coco.crowds.all():
        raise InputError(
            f'every annotation in {path} is a crowd (iscrowd=1, {key}), so there is nothing to '
            'compare predictions with: name a file with objects that count, iscrowd=0'
        )


def all_datasets(dataset: Any) -> Iterator[object]:
    """Yields a data set and, where it wraps others, those."""
    yield dataset
    for child in getattr(dataset, 'datasets', [getattr(dataset, 'dataset', None)]):
        if child is not None:
            yield from all_datasets(child)


def check_dataset(dataset: Any, model: nn.Module, key: str) -> None:
    """Checks that a loaded data set fits the model, and lets loading errors name their file.

    The pipeline is changed in place; `model` has no wrappers; `key` is for messages.

    Raises:
        InputError: If the number of classes or keypoints differs from a head's, or a label is out
            of range.
    """
    # A wrapper may convert what its parts hold, so its own description counts.
    metainfo = getattr(dataset, 'metainfo', {})
    classes = metainfo.get('classes') or ()
    for name, count in class_counts(model).items():
        if classes and len(classes) != count:
            raise InputError(
                f'{key} has {len(classes)} classes ({", ".join(classes[:5])}'
                f'{", ..." if len(classes) > 5 else ""}), but {name}.num_classes is {count}'
            )
    check_keypoint_channels(metainfo.get('num_keypoints'), model, key)
    for part in all_datasets(dataset):
        for count in class_counts(model).values():
            check_labels(part, count, key)
        check_first_keypoints(part, key)
        ignore_index = getattr(part, 'ignore_index', None)  # only of label maps
        num_classes = None if ignore_index is None else len(classes)
        wrap_loading(getattr(part, 'pipeline', None), num_classes, ignore_index)


def class_counts(model: nn.Module) -> dict[str, int]:
    """Returns `num_classes` of every head by its name.

    Region proposals know only objects, and a semantic head beside boxes only stuff.
    """
    return {
        name: module.num_classes
        for name, module in model.named_modules()
        if isinstance(getattr(module, 'num_classes', None), int)
        and name.split('.')[0].endswith('head')
        and not name.endswith(('rpn_head', 'semantic_head'))
    }


def check_labels(dataset: Any, num_classes: int, key: str) -> None:
    """Checks the labels of a classification set that come from an annotation file."""
    if not getattr(dataset, 'ann_file', '') or not hasattr(dataset, 'get_gt_labels'):
        return  # labels by folder are in range by construction
    labels = [np.ravel(dataset.get_data_info(i)['gt_label']) for i in range(len(dataset))]
    for i, label in enumerate(labels):
        if label.size and not 0 <= label.min() <= label.max() < num_classes:
            path = dataset.get_data_info(i).get('img_path', f'sample {i}')
            raise InputError(
                f'label {label.tolist()} of {path} is not from 0 to {num_classes - 1}: '
                f'{dataset.ann_file} ({key})'
            )


def check_keypoint_channels(num_keypoints: int | None, model: nn.Module, key: str) -> None:
    """Checks that a head predicts the keypoints of a data set."""
    channels = getattr(getattr(model, 'head', None), 'out_channels', None)
    if num_keypoints is None or not isinstance(channels, int):
        return
    # Some codecs predict two offsets beside each heatmap.
    if channels not in (num_keypoints, 3 * num_keypoints):
        raise InputError(
            f'{key} has {num_keypoints} keypoints a person, but head.out_channels is {channels}'
        )


def check_first_keypoints(dataset: Any, key: str) -> None:
    """Checks the first person of a pose data set; all have as many, see `check_annotation_file`."""
    expected = getattr(dataset, 'metainfo', {}).get('num_keypoints')
    if expected is None or not hasattr(dataset, 'get_data_info') or not len(dataset):
        return
    info = dataset.get_data_info(0)
    if 'keypoints' in info and info['keypoints'].shape[1] != expected:
        raise InputError(
            f'{info["keypoints"].shape[1]} keypoints a person in {dataset.ann_file}, '
            f'but the metainfo of {key} lists {expected}'
        )


def wrap_loading(pipeline: object, num_classes: int | None, ignore_index: int | None) -> None:
    """Wraps the loading transforms of a pipeline, in place, in `CheckedLoading`."""
    for steps in (getattr(pipeline, 'transforms', []), *getattr(pipeline, 'subroutines', [])):
        if not isinstance(steps, list):
            wrap_loading(steps, num_classes, ignore_index)
            continue
        for i, step in enumerate(steps):
            if type(step).__name__.startswith('Load'):
                steps[i] = CheckedLoading(step, num_classes, ignore_index)
            elif hasattr(step, 'transforms') or hasattr(step, 'subroutines'):
                wrap_loading(step, num_classes, ignore_index)


@dataclass(repr=False)
class CheckedLoading:
    """A loading transform whose errors name the file, and whose label maps are checked.

    Attributes:
        transform: Transform that reads an image or annotations.
        num_classes: Labels of a map must be below, where given. The libraries count higher ones as
            nothing when they evaluate.
        ignore_index: The label that may be higher.
    """

    transform: Any
    num_classes: int | None = None
    ignore_index: int | None = None

    def __call__(self, results: dict[str, Any]) -> dict[str, Any] | None:
        try:
            loaded = self.transform(results)
        except (OSError, AssertionError, TypeError, ValueError, cv2.error) as error:
            path = getattr(error, 'filename', None) or self.path_of(results)
            raise InputError(f'cannot load {path}: {error}') from error
        except KeyError as error:
            name = type(self.transform).__name__
            raise InputError(
                f'{results.get("img_path")} comes without {error}, which {name} reads: does the '
                'data set name its annotations (ann_file, data_prefix)?'
            ) from error
        if loaded is not None and self.num_classes and loaded.get('gt_seg_map') is not None:
            self.check_map(loaded, self.num_classes)
        return loaded

    def path_of(self, results: dict[str, Any]) -> str | None:
        """Returns the file that the transform reads."""
        reads_map = 'Annotation' in type(self.transform).__name__ and results.get('seg_map_path')
        return results['seg_map_path'] if reads_map else results.get('img_path')

    def check_map(self, results: dict[str, Any], num_classes: int) -> None:
        """Checks a label map, (H, W)."""
        labels, path = results['gt_seg_map'], results.get('seg_map_path')
        if 'ori_shape' in results and labels.shape[:2] != tuple(results['ori_shape']):
            raise InputError(
                # The libraries leave out sides of one pixel.
                f'{path} is {"x".join(map(str, labels.shape))} pixels (height x width), its image '
                f'{results["ori_shape"][0]}x{results["ori_shape"][1]}'
            )
        wrong = labels[(labels >= num_classes) & (labels != self.ignore_index)]
        if wrong.size:
            raise InputError(
                f'label {wrong.max()} in {path}: the data set has {num_classes} classes, '
                f'labels 0 to {num_classes - 1} and {self.ignore_index} for ignored pixels'
            )

    def __repr__(self) -> str:
        return repr(self.transform)
