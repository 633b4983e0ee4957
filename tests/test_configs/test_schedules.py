"""The learning rates that a training goes through, against numbers worked out from the paper's."""

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS
from recipes import PRIMITIVES, load

# Iterations of an epoch: few, but so many that a warm-up is over before the first step. Then
# learning rates by iteration, the first of which has number 0.
RATES = {
    # 1e-5 to 1e-3 in 5 epochs, then a half cosine over 295 epochs down to 1e-6.
    'classification/scopevit-tiny_8xb128_in1k.py': (
        10,
        {
            0: 1e-5,
            25: 5.15102e-4,
            49: 1e-3,
            50: 1e-3,
            59: 1e-3,
            1520: 5.03159e-4,
            2990: 1.02832e-6,
            2999: 1.02832e-6,
        },
    ),
    # 1e-6 to 1e-4 in 1 epoch, then a half cosine over 29 epochs, a step an iteration.
    'classification/scopevit-tiny_1xb64-ft-30e_custom.py': (
        10,
        {0: 1e-6, 5: 5.6e-5, 9: 1e-4, 10: 1e-4, 155: 5.05e-5, 299: 1.00290e-6},
    ),
    # A thousandth in the first of 500 iterations, a tenth from epochs 8 and 11.
    'detection/mask-rcnn_scopevit-tiny_fpn_1x_coco.py': (
        100,
        {
            0: 2e-7,
            250: 1.00300e-4,
            499: 2e-4,
            799: 2e-4,
            800: 2e-5,
            1099: 2e-5,
            1100: 2e-6,
            1199: 2e-6,
        },
    ),
    'detection/retinanet_scopevit-tiny_fpn_1x_coco.py': (
        100,
        {
            0: 1e-7,
            250: 5.01501e-5,
            499: 1e-4,
            799: 1e-4,
            800: 1e-5,
            1099: 1e-5,
            1100: 1e-6,
            1199: 1e-6,
        },
    ),
    # From epochs 27 and 33.
    'detection/mask-rcnn_scopevit-tiny_fpn_ms-3x_coco.py': (
        100,
        {
            0: 2e-7,
            250: 1.00300e-4,
            499: 2e-4,
            2699: 2e-4,
            2700: 2e-5,
            3299: 2e-5,
            3300: 2e-6,
            3599: 2e-6,
        },
    ),
    # 0.5 ** 0.9 = 0.535887 and 0.1 ** 0.9 = 0.125893 of the rate are left after 50 % and 90 %.
    'segmentation/fpn_scopevit-tiny_8xb4-80k_ade20k-512x512.py': (
        None,
        {0: 2e-4, 40000: 1.07177e-4, 72000: 2.51785e-5, 79999: 0},
    ),
    # 1e-6 of it in the first of 1500 iterations, half of it half-way between them and the end.
    'segmentation/upernet_scopevit-tiny_8xb2-160k_ade20k-512x512.py': (
        None,
        {0: 1e-10, 750: 5.00334e-5, 1499: 1e-4, 1500: 1e-4, 80750: 5e-5, 144150: 1e-5, 159999: 0},
    ),
    # A thousandth in the first of 500 iterations, a tenth from epochs 170 and 200.
    'pose/td-hm_scopevit-tiny_8xb32-210e_coco-256x192.py': (
        10,
        {
            0: 1e-6,
            250: 5.01501e-4,
            499: 1e-3,
            1699: 1e-3,
            1700: 1e-4,
            1999: 1e-4,
            2000: 1e-5,
            2099: 1e-5,
        },
    ),
}
# Which train as another does.
SAME = {
    'classification/scopevit-tiny_8xb128-ema_in1k.py': (
        'classification/scopevit-tiny_8xb128_in1k.py'
    ),
    'pose/td-hm_scopevit-tiny_8xb32-210e_coco-384x288.py': (
        'pose/td-hm_scopevit-tiny_8xb32-210e_coco-256x192.py'
    ),
}


@pytest.mark.parametrize('recipe', PRIMITIVES)  # others differ from them in the model alone
def test_learning_rates_are_the_authors(recipe):
    epoch_length, expected = RATES[SAME.get(recipe, recipe)]
    rates = learning_rates(load(recipe), epoch_length)
    assert {i: rates[i] for i in expected} == pytest.approx(expected, rel=2e-4, abs=1e-12)
    assert len(rates) == max(expected) + 1


def learning_rates(cfg: dict, epoch_length: int | None) -> list[float]:
    """Steps the schedulers of a config as the Runner does, which trains by epochs or iterations."""
    rate = cfg.optim_wrapper.optimizer.lr
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    schedulers = [
        PARAM_SCHEDULERS.build(
            scheduler.copy(), default_args=dict(optimizer=optimizer, epoch_length=epoch_length)
        )
        for scheduler in cfg.param_scheduler
    ]
    length = cfg.train_cfg.get('max_iters') or cfg.train_cfg.max_epochs * epoch_length
    rates = []
    for i in range(length):
        rates.append(optimizer.param_groups[0]['lr'])
        ends_epoch = epoch_length is not None and (i + 1) % epoch_length == 0
        for scheduler in schedulers:
            if ends_epoch or not scheduler.by_epoch:
                scheduler.step()
    return rates
