"""One config's model, built, a step of training and one of prediction on the CPU."""

import importlib
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from torch import Tensor, nn

from scopevit.engine.libraries import LIBRARIES
from scopevit.model_zoo.causes import LEFT_OUT, WORKS, Outcome, outcome_of
from scopevit.model_zoo.files import ConfigFile
from scopevit.model_zoo.reading import build_model, fingerprint, read_model_config

INPUTS = {
    'mmdet': 'detection_inputs',
    'mmpose': 'pose_inputs',
    'mmpretrain': 'classification_inputs',
    'mmseg': 'segmentation_inputs',
}
NO_MODEL = 'has no model of its own'


def try_config(file: ConfigFile, known: Mapping[str, tuple[str, Outcome]]) -> tuple[Outcome, str]:
    """Reads a config, and takes a step of training and one of prediction with its model.

    Args:
        file: The config.
        known: Names and outcomes of configs that were tried before, by their fingerprint.

    Returns:
        What became of it, and its fingerprint, '' where it could not be read.
    """
    stage = Stage()
    mark = ''
    torch.manual_seed(0)
    try:
        with without_network(), at_configs_of(file):
            cfg = read_model_config(file.path)
            if cfg.get('model') is None:
                return Outcome(LEFT_OUT, '', NO_MODEL), ''
            mark = fingerprint(cfg)
            if mark in known:
                name, outcome = known[mark]
                return Outcome(**{**outcome.__dict__, 'same_as': name}), mark
            run(cfg, stage)
    except Exception as error:  # whatever a library's model may raise
        return outcome_of(error, stage.name), mark
    return Outcome(WORKS), mark


class Stage:
    """How far a config came."""

    name = 'read'


class Unfit(ValueError):
    """A step ended, and what came of it is not what a model is for."""


def run(cfg: Config, stage: Stage) -> None:
    """Builds the model of a config and takes both steps.

    Raises:
        Exception: Whatever the libraries raise; `Unfit` where a loss is no number, reaches no
            parameter, or nothing is predicted.
    """
    scope = cfg.get('default_scope')
    if scope not in LIBRARIES:
        raise Unfit(f'default_scope is {scope!r}')
    inputs = import_inputs(scope)
    set_progress()
    if hasattr(inputs, 'shrink'):
        inputs.shrink(cfg)
    stage.name = 'build'
    model = build_model(cfg)
    stage.name = 'inputs'
    train, test = inputs.make_inputs(cfg)
    if not is_headless(cfg):
        stage.name = 'loss'
        train_step(model, train)
    stage.name = 'predict'
    predict(model, test)


def import_inputs(library: str) -> Any:
    """Returns the module that makes the inputs of a library's models."""
    return importlib.import_module(f'scopevit.model_zoo.{INPUTS[library]}')


def train_step(model: BaseModel, batch: dict[str, Any]) -> None:
    """Computes the losses of a batch and their gradients."""
    arrived = watch_gradients(model)
    model.train()
    data = model.data_preprocessor(batch, True)
    loss, _ = model.parse_losses(model._run_forward(data, mode='loss'))
    if not loss.isfinite():
        raise Unfit('the loss is no number')
    loss.backward()
    if not arrived:
        raise Unfit('the loss reaches no parameter')
    if not all(arrived.values()):
        raise Unfit('a gradient is no number')


def watch_gradients(model: nn.Module) -> dict[str, bool]:
    """Frees each gradient once it is there, for models whose gradients would not fit into memory.

    Returns:
        By the names of the parameters that got one, whether it is finite; filled by the backward
        pass.
    """
    arrived: dict[str, bool] = {}
    for name, parameter in model.named_parameters():

        def note(parameter: Tensor, name: str = name) -> None:
            assert parameter.grad is not None
            arrived[name] = bool(parameter.grad.isfinite().all())
            parameter.grad = None

        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(note)
    return arrived


@torch.no_grad()
def predict(model: BaseModel, batch: dict[str, Any]) -> None:
    """Predicts a batch; models that only learn features give these."""
    model.eval()
    data = model.data_preprocessor(batch, False)
    mode = 'tensor' if gives_features(model) else 'predict'
    if mode == 'tensor' and isinstance(data['inputs'], (list, tuple)):
        data['inputs'] = data['inputs'][0]  # the first view
    predicted = model._run_forward(data, mode=mode)
    if mode == 'predict' and not (isinstance(predicted, (list, tuple)) and len(predicted)):
        raise Unfit(f'predicts {type(predicted).__name__}, no list of samples')


def is_headless(cfg: Config) -> bool:
    """Whether a model of mmpretrain is a backbone alone, without a head that has a loss."""
    return 'head' in cfg.model and cfg.model.head is None


def gives_features(model: BaseModel) -> bool:
    """Whether a model predicts nothing, as those of mmpretrain without labels or without a head."""
    without_labels = any(cls.__name__ == 'BaseSelfSupervisor' for cls in type(model).__mro__)
    return without_labels or (hasattr(model, 'with_head') and not model.with_head)


def set_progress() -> None:
    """Says how far a training is, which some models ask."""
    hub = MessageHub.get_instance('model_zoo')
    for name, value in (('iter', 0), ('epoch', 0), ('max_iters', 10), ('max_epochs', 1)):
        hub.update_info(name, value)


@contextmanager
def without_network() -> Iterator[None]:
    """Makes connections fail at once, so that nothing is downloaded."""
    connect = socket.socket.connect
    socket.socket.connect = refuse_connection  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        socket.socket.connect = connect  # type: ignore[method-assign]


def refuse_connection(_: socket.socket, address: object) -> NoReturn:
    """Raises what a machine without a network does."""
    raise ConnectionRefusedError(f'the model wants to connect to {address}')


@contextmanager
def at_configs_of(file: ConfigFile) -> Iterator[None]:
    """Works in the folder of a library's configs: some name one another from there."""
    before = os.getcwd()
    root = next((parent for parent in file.path.parents if parent.name == 'configs'), None)
    os.chdir(root.parent if root else file.path.parent)
    try:
        yield
    finally:
        os.chdir(before)
