"""Between the names that the authors' code, OpenMMLab's libraries and timm give to weights."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from scopevit.checkpoint import read_checkpoint
from scopevit.errors import InputError
from scopevit.files import replacing, write_bytes
from scopevit.models.scopevit import ScopeViT
from scopevit.models.sizes import ARCHS
from scopevit.state_dict import below_prefix, by_kind, compare, strip_prefix, unwrap_state_dict

# What is named differently within a layer: ours, the authors'.
LAYER_NAMES = {
    'gamma1': 'ls1.gamma',
    'gamma2': 'ls2.gamma',
    'attn.position_encoding.expand.': 'attn.mspe.cpe.conv_pw.',
    'attn.position_encoding.norm1.': 'attn.mspe.cpe.bn1.0.',
    'attn.position_encoding.depthwise.': 'attn.mspe.cpe.conv_dw.',
    'attn.position_encoding.norm2.': 'attn.mspe.cpe.bn2.0.',
    'attn.position_encoding.project.': 'attn.mspe.cpe.conv_pwl.',
    'attn.position_encoding.norm3.': 'attn.mspe.cpe.bn3.',
    'attn.scales.0.': 'attn.mspe.large_embed.',
    'attn.scales.1.': 'attn.mspe.medium_embed.',
    'attn.scales.2.': 'attn.mspe.small_embed.',
    'attn.rel_pos.': 'attn.rel_pos.mlp.',
}
PATCH_EMBED_NAMES = {'0': 'projection', '1': 'norm'}  # of stages 2 to 4

# Whose names there are: those of mmpretrain's `ImageClassifier` (`backbone.stages.`, `head.fc.`),
# of `timm.create_model` (`stages.`, `head.fc.`), and of the authors' release.
NAMINGS = ('mm', 'timm', 'authors')


def authors_name(name: str) -> str:
    """Returns the authors' name of a backbone tensor, `norm1.bias` of `stages.0.norm.bias`."""
    _, index, part, rest = name.split('.', 3)
    stage = int(index) + 1
    if part == 'norm':
        return f'norm{stage}.{rest}'
    if part == 'patch_embed' and stage == 1:
        return f'patch_embed1.projection.{rest}'
    if part == 'patch_embed':
        layer, rest = rest.split('.', 1)
        return f'patch_embed{stage}.{PATCH_EMBED_NAMES[layer]}.{rest}'
    block, layer, rest = rest.split('.', 2)
    for ours, theirs in LAYER_NAMES.items():
        if rest.startswith(ours):
            rest = theirs + rest.removeprefix(ours)
            break
    return f'blocks{stage}.{block}.{layer}.{rest}'


FIRST_OF_AUTHORS = authors_name('stages.0.patch_embed.0.weight')  # tells their checkpoints


def expected_tensors(
    arch: str, num_classes: int | None, in_channels: int = 3
) -> dict[str, tuple[str, Tensor]]:
    """Returns name here and stand-in of every tensor of a size, by the authors' name."""
    with torch.device('meta'):
        backbone = ScopeViT(arch, in_channels)
        head = None if num_classes is None else nn.Linear(backbone.embed_dims[-1], num_classes)
    tensors = {
        authors_name(name): (f'backbone.{name}', value)
        for name, value in backbone.state_dict().items()
    }
    if head is not None:
        tensors |= {f'head.{k}': (f'head.fc.{k}', v) for k, v in head.state_dict().items()}
    return tensors


def convert_state_dict(
    state_dict: Mapping[str, Tensor], backbone_only: bool = False
) -> tuple[dict[str, Tensor], str]:
    """Renames tensors to mmpretrain's names and proves that they are one of the three sizes.

    Args:
        state_dict: Weights by the names of any of `NAMINGS`, with or without a leading `backbone.`.
        backbone_only: Whether to drop the classifier.

    Returns:
        Weights by the names of mmpretrain's `ImageClassifier` (`backbone.` and `head.fc.`), and the
        size found: 'xtiny', 'tiny' or 'small'.

    Raises:
        InputError: If a tensor fits nowhere or lacks; the message lists the authors' names.
    """
    given = by_authors_names(strip_prefix(state_dict, 'backbone.'))
    num_classes = None
    if backbone_only:
        given = {k: v for k, v in given.items() if k not in ('head.weight', 'head.bias')}
    else:
        heads = [given[k] for k in ('head.weight', 'head.bias') if k in given and given[k].ndim]
        num_classes = len(heads[0]) if heads else 1
    first = given.get(FIRST_OF_AUTHORS)
    in_channels = first.shape[1] if first is not None and first.ndim == 4 else 0
    problems = {}
    for arch in ARCHS:
        expected = expected_tensors(arch, num_classes, in_channels or 3)
        problems[arch] = compare({k: value for k, (_, value) in expected.items()}, given)
        if not problems[arch]:
            # `compare` lets counts of batches be missing. Clones, since slices of one storage would
            # be saved as all of it.
            found = given | {k: torch.tensor(0) for k in expected if k not in given}
            return {name: found[k].clone() for k, (name, _) in expected.items()}, arch
    arch = min(problems, key=lambda arch: len(problems[arch]))
    report = '; '.join(f'{k}: {", ".join(v)}' for k, v in by_kind(problems[arch]).items())
    raise InputError(f"not one of the authors' sizes (nearest: {arch}); {report}")


def by_authors_names(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns weights by the authors' names; what they or we do not know keeps its own."""
    theirs = {
        ours.removeprefix('backbone.'): name
        for arch in ARCHS
        for name, (ours, _) in expected_tensors(arch, num_classes=1).items()
    }
    return {theirs.get(name, name): value for name, value in state_dict.items()}


def timm_weights(checkpoint: object, path: str | Path) -> dict[str, Tensor]:
    """Returns the weights of a classifier by timm's names, whoever named them.

    Raises:
        InputError: As `backbone_weights`.
    """
    weights = strip_prefix(unwrap_state_dict(checkpoint, path), 'backbone.')
    if FIRST_OF_AUTHORS not in weights:
        return weights
    try:
        return strip_prefix(convert_state_dict(weights)[0], 'backbone.')
    except InputError as error:
        raise InputError(f'{path}: {error}') from error


def backbone_weights(checkpoint: object, path: str | Path) -> dict[str, Tensor]:
    """Returns the weights of a backbone by their names here, whoever named them.

    `checkpoint` is of a classifier or a bare backbone, what `read_checkpoint` returned. This is the
    place to translate the names of other projects.

    Raises:
        InputError: If there are no weights, or they have the authors' names and fit none of their
            sizes.
    """
    weights = unwrap_state_dict(checkpoint, path)
    weights = below_prefix(weights, 'backbone.') or weights
    if FIRST_OF_AUTHORS not in weights:
        return weights
    try:
        return below_prefix(convert_state_dict(weights, backbone_only=True)[0], 'backbone.')
    except InputError as error:
        raise InputError(f'{path}: {error}') from error


def convert_checkpoint(
    src: str | Path,
    dst: str | Path,
    backbone_only: bool = False,
    ema: bool = False,
    to: str = 'mm',
) -> str:
    """Converts a checkpoint of a classifier or a backbone; writes `dst` whole or not at all.

    Args:
        src: Weights by the names of any of `NAMINGS`: bare, or under `state_dict`,
            `state_dict_ema` or `model`, perhaps with a `module.` or `backbone.` prefix.
        dst: File to write; with the suffix `.safetensors` weights alone. Those of 'mm' are for
            `init_cfg=dict(type='Pretrained', checkpoint=dst, prefix='backbone.')`.
        backbone_only: Whether to drop the classifier.
        ema: Whether to take the moving average of the weights where `src` has both.
        to: Names to give, one of `NAMINGS`.

    Returns:
        The size found: 'xtiny', 'tiny' or 'small'.

    Raises:
        InputError: If `src` cannot be read or is no such checkpoint.
    """
    state_dict = unwrap_state_dict(read_checkpoint(src), src, ema)
    try:
        converted, arch = convert_state_dict(state_dict, backbone_only)
    except InputError as error:
        raise InputError(f'{src}: {error}') from error
    if to != 'mm':
        converted = strip_prefix(converted, 'backbone.')
    if to == 'authors':
        converted = by_authors_names(converted)
    if Path(dst).suffix == '.safetensors':
        write_bytes(dst, safetensors.torch.save(converted, metadata={'format': 'pt'}))
        return arch
    try:
        with replacing(dst) as part:
            torch.save({'state_dict': converted, 'meta': {'arch': arch}}, part)
    except RuntimeError as error:  # torch's word for a file it cannot write
        raise InputError(f'cannot write {dst}: {error}') from error
    return arch
