"""Metafiles: what a zoo of OpenMMLab's format says of each of its models."""

from pathlib import Path
from typing import Any

import yaml

from scopevit.errors import InputError, error_text


def read_metafile(path: Path) -> dict[str, dict[str, Any]]:
    """Reads a metafile, as data.

    Args:
        path: YAML with `Models`, a list.

    Returns:
        Models by their names. `Results` of one is a list, empty where it was not trained, whose
        `Metrics` are in per cent; `Metadata` is a dict.

    Raises:
        InputError: If it cannot be read, or a part that is read here has another form.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f'cannot read {path} as YAML: {error_text(error)}') from error
    models = content.get('Models') if isinstance(content, dict) else None
    if not isinstance(models, list):
        raise InputError(f'{path} is no metafile: it has no list of Models')
    entries: dict[str, dict[str, Any]] = {}
    for number, model in enumerate(models, 1):
        where = f'{path}: model {number}'
        if not isinstance(model, dict) or not isinstance(model.get('Name'), str):
            raise InputError(f'{where} must have a Name')
        if model['Name'] in entries:
            raise InputError(f'{where} has the Name of another: {model["Name"]}')
        entries[model['Name']] = read_model(model, where)
    return entries


def read_model(model: dict[str, Any], where: str) -> dict[str, Any]:
    """Returns an entry, see `read_metafile`; `where` is its place, for messages."""
    config = model.get('Config')
    if not isinstance(config, (str, type(None))):
        raise InputError(f'{where}: Config must be a path, not {config!r}')
    metadata = model.get('Metadata') or {}
    if not isinstance(metadata, dict):
        raise InputError(f'{where}: Metadata must have names')
    for key in ('FLOPs', 'Parameters'):
        if key in metadata and (type(metadata[key]) is not int or metadata[key] < 0):
            raise InputError(f'{where}: {key} must be a whole number, not {metadata[key]!r}')
    results = model.get('Results') or []
    if not isinstance(results, list):
        raise InputError(f'{where}: Results must be a list')
    for result in results:
        check_result(result, where)
    return model | {'Metadata': metadata, 'Results': results}


def check_result(result: Any, where: str) -> None:
    """Raises an InputError unless a result has a task, and metrics in per cent."""
    if not isinstance(result, dict) or not isinstance(result.get('Task'), str):
        raise InputError(f'{where}: each of Results must have a Task')
    metrics = result.get('Metrics')
    if not isinstance(metrics, dict) or not all(isinstance(name, str) for name in metrics):
        raise InputError(f'{where}: Metrics of {result["Task"]} must have names')
    for name, value in metrics.items():
        if type(value) not in (int, float) or not 0 <= value <= 100:
            raise InputError(f'{where}: {name} must be from 0 to 100, not {value!r}')
