"""Numbers of a training on own data."""

import pytest
import torch
from mmengine.optim.scheduler import CosineAnnealingLR, LinearLR

from scopevit.compat.external_configs import CONFIGS
from scopevit.engine.config import read_config
from scopevit.errors import InputError
from scopevit.own_data.schedule import RECIPES, make_schedule


def test_recipes_are_the_files_their_rates_and_batches():
    files = {path.stem: path for path in (CONFIGS / '_base_' / 'own_data').iterdir()}
    assert set(files) == set(RECIPES)
    for name, path in files.items():
        cfg, recipe = read_config(path), RECIPES[name]
        assert cfg.optim_wrapper.optimizer.lr == recipe.learning_rate
        assert cfg.train_dataloader.get('drop_last', False) == recipe.drop_last


@pytest.mark.parametrize(
    ('base', 'samples', 'pixels', 'memory', 'batch', 'steps', 'epochs', 'rate'),
    [
        # Enough of all: the recipe as it is.
        ('classification', 100_000, 256**2, 80, 64, 1562, 30, 2e-3),
        # Eight batches an epoch: 100 / 8 = 12; at 600 steps, 12 a step of 8 images, 50 epochs.
        ('classification', 100, 256**2, 80, 8, 12, 50, 7.1e-4),
        # 4 images of 1344x800 are predicted to take 10.8 GiB, two half as much.
        ('retinanet', 1000, 1344 * 800, 12, 2, 500, 12, 7.1e-4),
        ('retinanet', 1000, 1344 * 800, 24, 4, 250, 12, 1e-3),
        # An incomplete batch counts where it is not left out.
        ('retinanet', 33, 64**2, 80, 4, 9, 67, 1e-3),
        ('fpn', 17, 64**2, 80, 2, 8, 75, 1e-3),
    ],
)
def test_schedules(base, samples, pixels, memory, batch, steps, epochs, rate):
    plan = make_schedule(RECIPES[base], samples, pixels, memory=memory)
    assert (plan.batch_size, plan.steps, plan.epochs) == (batch, steps, epochs)
    assert plan.learning_rate == pytest.approx(rate)
    assert plan.warmup == min(500, steps * epochs // 15)
    assert 1 <= plan.log_interval <= max(1, steps // 4)


def test_epochs_as_asked():
    assert make_schedule(RECIPES['fpn'], 16, 64**2, epochs=3, memory=8).epochs == 3


def test_too_few():
    with pytest.raises(InputError, match='1 samples to train on; it takes 2 or more'):
        make_schedule(RECIPES['td-hm'], 1, 256 * 192, memory=8)


@pytest.mark.parametrize(('samples', 'epochs'), [(8, 1), (30, 2), (4000, 30)])
def test_warmup_reaches_the_rate(samples, epochs):
    plan = make_schedule(RECIPES['retinanet'], samples, 64**2, epochs=epochs, memory=8)
    total = plan.steps * epochs
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedulers = [
        LinearLR(optimizer, start_factor=0.01, by_epoch=False, end=plan.warmup),
        CosineAnnealingLR(optimizer, by_epoch=False, begin=plan.warmup, end=total),
    ]
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert max(rates) == pytest.approx(1.0)


def test_too_short():
    with pytest.raises(InputError, match='--epochs 1: that is 1 steps; it takes 4 or more'):
        make_schedule(RECIPES['td-hm'], 3, 256 * 192, epochs=1, memory=8)
