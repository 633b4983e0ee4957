"""Checkpoints of the miniature tasks, with all that a training stores in them but its state."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from mmengine.registry import DATASETS, DefaultScope
from tasks import write_task

from scopevit.engine.config import load_config
from scopevit.engine.libraries import find_library
from scopevit.engine.model import build_model


@dataclass(frozen=True)
class Trained:
    """A checkpoint, the config of its task and its images, which are nowhere else by then."""

    checkpoint: Path
    config: Path
    data: Path
    images: Path


@pytest.fixture(scope='session')
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """A function that returns the checkpoint of a task."""
    known: dict[str, Trained] = {}

    def make(name: str) -> Trained:
        if name not in known:
            task = write_task(name, tmp_path_factory.mktemp(name))
            cfg = load_config(task.config)
            find_library(cfg.default_scope)
            torch.manual_seed(0)
            model = build_model(cfg)
            with DefaultScope.overwrite_default_scope(cfg.default_scope):
                metainfo = DATASETS.build(cfg.test_dataloader.dataset).metainfo
            folder = tmp_path_factory.mktemp(f'{name}_elsewhere')
            checkpoint = folder / f'{name}.pth'
            meta = {'cfg': cfg.pretty_text, 'dataset_meta': metainfo}
            torch.save({'meta': meta, 'state_dict': dict(model.state_dict())}, checkpoint)
            images = folder / 'images'
            shutil.copytree(task.data / 'images', images)
            known[name] = Trained(checkpoint, task.config, task.data, images)
        return known[name]

    return make
