"""Classifiers as the Hugging Face hub keeps them: weights, config and a model card in a folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from scopevit.checkpoint import read_checkpoint
from scopevit.compat.external_configs import CONFIGS
from scopevit.errors import InputError
from scopevit.files import write_text
from scopevit.metafile import read_metafile
from scopevit.models.convert import convert_state_dict
from scopevit.state_dict import strip_prefix, unwrap_state_dict

PAPER = 'https://doi.org/10.1016/j.patcog.2024.110470'
CODE = """```python
import scopevit
import timm

model = timm.create_model('{source}', pretrained=True).eval()
```"""


def save_pretrained(
    checkpoint: str | Path,
    folder: str | Path,
    recipe: str | None = None,
    metrics: Mapping[str, float] | None = None,
    repo_id: str | None = None,
) -> Path:
    """Writes a classifier for `timm.create_model('local-dir:FOLDER', pretrained=True)`, offline.

    Args:
        checkpoint: Of mmpretrain's `ImageClassifier` with a ScopeViT of one of the three sizes, or
            its weights under timm's or the authors' names.
        folder: Gets `model.safetensors`, `config.json` and `README.md`.
        recipe: Name of the config it was trained by, for the model card.
        metrics: What was measured of it, as in `metrics.json` of `tools/test.py`.
        repo_id: Where it will be on the hub, for the model card.

    Returns:
        The folder.

    Raises:
        InputError: If the checkpoint is none of these, or there is no such recipe.
    """
    import timm

    content = read_checkpoint(checkpoint)
    try:
        weights, arch = convert_state_dict(unwrap_state_dict(content, checkpoint))
    except InputError as error:
        raise InputError(f'{checkpoint}: {error}') from error
    weights = strip_prefix(weights, 'backbone.')
    entry = find_entry(recipe) if recipe else {}
    model = timm.create_model(
        f'scopevit_{arch}',
        num_classes=len(weights['head.fc.bias']),
        in_chans=weights['stages.0.patch_embed.0.weight'].shape[1],
    )
    model.load_state_dict(weights)
    preprocessing, classes = read_description(content, Path(checkpoint))
    model.pretrained_cfg.update(preprocessing)
    labels = {'label_names': classes} if classes else {}
    timm.models.save_for_hf(model, str(folder), model_config=labels, safe_serialization=True)
    source = f'hf-hub:{repo_id}' if repo_id else 'local-dir:FOLDER'
    text = model_card(arch, model, entry, metrics or {}, source)
    write_text(Path(folder, 'README.md'), text)
    return Path(folder)


def push_to_hf_hub(folder: str | Path, repo_id: str, private: bool = False) -> str:
    """Uploads what `save_pretrained` wrote; returns its address.

    The token is that of `huggingface-cli login` or of HF_TOKEN.

    Raises:
        InputError: If the folder is not such a one, or the hub refuses it.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    missing = [n for n in ('model.safetensors', 'config.json') if not Path(folder, n).is_file()]
    if missing:
        raise InputError(f'{folder} has no {" and no ".join(missing)}')
    api = HfApi()
    try:
        repo = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo.repo_id, folder_path=str(folder))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).partition('\n')[0]
        raise InputError(f'cannot upload {folder} to {repo_id}: {reason}') from error
    return str(repo)


def find_entry(recipe: str) -> dict[str, Any]:
    """Returns what the metafile of classification says of a recipe.

    Raises:
        InputError: If it says nothing.
    """
    by_name = read_metafile(CONFIGS / 'classification' / 'metafile.yml')
    if recipe not in by_name:
        ours = ', '.join(name for name in by_name if name.startswith('scopevit'))
        raise InputError(f'no recipe {recipe} of classification: {ours}')
    return by_name[recipe]


def read_description(content: object, path: Path) -> tuple[dict[str, Any], list[str]]:
    """Returns timm's settings of the images, and the classes, as far as a checkpoint has them."""
    meta = content.get('meta') if isinstance(content, Mapping) else None
    if not isinstance(meta, Mapping) or not meta.get('cfg'):
        return {}, []
    from scopevit.inference.recipe import find_recipe  # imports mmcv and OpenCV

    recipe = find_recipe({'meta': meta}, path, None)
    settings: dict[str, Any] = {}
    preprocessor = recipe.model.get('data_preprocessor') or {}
    for name in ('mean', 'std'):
        if preprocessor.get(name):
            settings[name] = tuple(value / 255 for value in preprocessor[name])
    steps = {step['type']: step for step in recipe.pipeline}
    channels = len(settings.get('mean', (0, 0, 0)))
    if 'CenterCrop' in steps and 'ResizeEdge' in steps:
        crop, resize = steps['CenterCrop'], steps['ResizeEdge']
        settings['input_size'] = (channels, crop['crop_size'], crop['crop_size'])
        settings['crop_pct'] = round(crop['crop_size'] / resize['scale'], 4)
        settings['interpolation'] = resize.get('interpolation', 'bilinear')
    elif isinstance(steps.get('Resize', {}).get('scale'), int):
        side = steps['Resize']['scale']
        settings |= dict(input_size=(channels, side, side), crop_pct=1.0, crop_mode='squash')
        settings['interpolation'] = steps['Resize'].get('interpolation', 'bilinear')
    return settings, [str(name) for name in recipe.metainfo.get('classes') or ()]


def model_card(
    arch: str,
    model: nn.Module,
    entry: Mapping[str, Any],
    metrics: Mapping[str, float],
    source: str,
) -> str:
    """Returns the README of a model: where it comes from, its size, and what was measured."""
    head = yaml.safe_dump(
        dict(
            library_name='timm',
            license='apache-2.0',
            pipeline_tag='image-classification',
            tags=['image-classification', 'timm', 'scopevit'],
        )
    )
    metadata = entry.get('Metadata', {})
    facts = {
        'recipe': entry.get('Config'),
        'training data': metadata.get('Training Data'),
        'classes': model.num_classes,
        'parameters': sum(p.numel() for p in model.parameters()),
        'multiply-adds': metadata.get('FLOPs'),
    }
    rows = [f'| {name} | {value:,} |' if isinstance(value, int) else f'| {name} | {value} |'
            for name, value in facts.items() if value is not None]  # fmt: skip
    measured = [f'| {name} | {value:.4g} |' for name, value in metrics.items()]
    measured = ['| metric | value |', '|---|---|', *measured] if measured else ['Not measured yet.']
    return '\n'.join(
        [
            f'---\n{head}---',
            f'# ScopeViT-{arch}',
            '',
            f'A [scale-aware vision Transformer]({PAPER}), of the toolbox scopevit.',
            '',
            *['| | |', '|---|---|', *rows],
            '',
            '## Measured',
            '',
            *measured,
            '',
            '## Use',
            '',
            CODE.format(source=source),
            '',
        ]
    )
