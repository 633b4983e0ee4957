"""The network of a checkpoint, ready to predict."""

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose, default_collate, pseudo_collate
from mmengine.device import get_device
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from scopevit.checkpoint import is_exported
from scopevit.engine.amp import in_half
from scopevit.engine.checks.weights import check_model_weights, read_weights
from scopevit.engine.explain import input_errors
from scopevit.engine.libraries import Library
from scopevit.engine.model import load_weights
from scopevit.errors import InputError
from scopevit.inference.recipe import Recipe, find_recipe


def open_network(
    checkpoint: str | Path, config: str | Path | None, device: str | None
) -> tuple[Recipe, Any]:
    """Opens a checkpoint, or an exported file, to predict.

    Args:
        checkpoint: The file, or as `read_checkpoint` takes it.
        config: A config file instead of the one in it.
        device: As `find_device` takes it; exported files run on the CPU.

    Raises:
        InputError: If it cannot be read, has no config, or the device is none for it.
    """
    path = Path(checkpoint).expanduser()
    if not is_exported(path):
        content = read_weights(checkpoint)
        recipe = find_recipe(content, path, config)
        return recipe, build_network(recipe, content, path, find_device(device))
    # Imported by those who have one alone: its runtimes are optional.
    from scopevit.export.exported import ExportedModel, as_checkpoint, check_task

    if device not in (None, 'cpu'):
        raise InputError(f'{path}: exported files run on the CPU here, not on {device!r}')
    model = ExportedModel(path)
    recipe = find_recipe(as_checkpoint(model.about, path), path, config)
    check_task(model.about, path, recipe.library.task, recipe.source)
    return recipe, model.eval()


def device_of(model: nn.Module) -> str:
    """Returns the device of a model's parameters; an exported one has none and runs on the CPU."""
    first = next(model.parameters(), None)
    return 'cpu' if first is None else str(first.device)


def build_network(recipe: Recipe, checkpoint: dict[str, Any], path: Path, device: str) -> nn.Module:
    """Builds the model of a recipe, with the weights of a checkpoint, in eval mode.

    Raises:
        InputError: If the model cannot be built, or the weights are not its.
    """
    with ExitStack() as stack:
        stack.enter_context(input_errors(recipe.source))
        models = stack.enter_context(MODELS.switch_scope_and_registry(recipe.library.name))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter('ignore')  # about losses, which prediction has no use for
        model = revert_sync_batchnorm(models.build(recipe.model))
    check_means(model, recipe.source)
    check_model_weights(model, checkpoint, path)
    load_weights(model, checkpoint)
    return model.to(device).eval()


def build_pipeline(recipe: Recipe) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Builds the steps of a recipe's pipeline.

    Raises:
        InputError: If a step does not exist, or takes other arguments.
    """
    with input_errors(recipe.source), DefaultScope.overwrite_default_scope(recipe.library.name):
        return Compose(recipe.pipeline)


def pipeline_infos(
    recipe: Recipe, pixels: np.ndarray, source: str, boxes: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """Returns what a pipeline takes of an image: of each of its boxes where the network takes some.

    Args:
        recipe: With the pipeline.
        pixels: The image, (H, W, 3) BGR or (H, W).
        source: Where it came from, for messages.
        boxes: For top-down poses, (N, 5) with scores; None for the whole image.
    """
    loading = recipe.loading
    if loading.is_rgb and pixels.ndim == 3:
        pixels = pixels[..., ::-1]
    if loading.to_float32:
        pixels = pixels.astype(np.float32)
    height, width = pixels.shape[:2]
    common = dict(
        img=pixels, img_shape=(height, width), ori_shape=(height, width), img_path=source,
        img_id=0, sample_idx=0,
    )  # fmt: skip
    if recipe.library.task == 'pose':
        common = dict(recipe.metainfo) | common
    if not recipe.is_topdown:
        return [common]
    whole = np.array([[0, 0, width, height, 1]], np.float32)
    return [
        common | dict(bbox=box[None, :4], bbox_score=box[4:])
        for box in (whole if boxes is None else boxes)
    ]


def collate(library: Library) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    """Returns what makes a batch, as the library's own tools do."""
    return default_collate if library.name == 'mmpretrain' else pseudo_collate


def find_device(device: str | None) -> str:
    """Returns the device to run on: by default a GPU, where there is one.

    Raises:
        InputError: If there is no such device.
    """
    if device is None:
        return str(get_device())
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f'no device {device!r} here; without --device, one is found') from error
    return device


def input_channels(model: nn.Module) -> int:
    """Returns the channels of the images that a network takes, by its first convolution.

    An exported one says it.
    """
    said: Any = getattr(model, 'image_channels', None)
    if isinstance(said, int):
        return said
    backbone: Any = getattr(model, 'backbone', model)
    convs = (module for module in backbone.modules() if isinstance(module, nn.Conv2d))
    first = next(convs, None)
    return 3 if first is None else first.in_channels


def check_means(model: nn.Module, source: str) -> None:
    """Raises an InputError where images are to be normalized by means of other channels."""
    channels = input_channels(model)
    for name in ('mean', 'std'):
        values = getattr(getattr(model, 'data_preprocessor', None), name, None)
        if isinstance(values, torch.Tensor) and values.numel() not in (1, channels):
            raise InputError(
                f'{source}: data_preprocessor.{name} has {values.numel()} values, and the network '
                f'takes {channels} channels'
            )


def halve_backbone(model: Any, device: str) -> None:
    """Lets the backbone run in half precision; the heads stay in float32, as their code needs.

    On the CPU this is bfloat16, elsewhere float16.

    Raises:
        InputError: If the model has no backbone.
    """
    backbone = find_backbone(model, '--half')
    kind = torch.device(device).type
    dtype = torch.bfloat16 if kind == 'cpu' else torch.float16
    backbone.forward = in_half(backbone.forward, kind, dtype)


def compile_backbone(model: Any) -> None:
    """Compiles the backbone, anew for each of a few sizes of images.

    Raises:
        InputError: If the model has no backbone, or there is no C++ compiler for its kernels.
    """
    backbone = find_backbone(model, '--compile')
    if next(model.parameters()).device.type == 'cpu':
        check_compiler()
    backbone.compile()


def check_compiler() -> None:
    """Raises an InputError where there is no C++ compiler, which the first image would ask for."""
    # Imported by those who compile alone: it takes seconds.
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise InputError(
            '--compile needs a C++ compiler, such as g++, on the PATH or named by the '
            'environment variable CXX'
        ) from error


def find_backbone(model: Any, option: str) -> Any:
    """Returns the backbone of a model, for an option that is about it."""
    if not isinstance(getattr(model, 'backbone', None), nn.Module):
        raise InputError(f'{option}: {type(model).__name__} has no backbone')
    return model.backbone
