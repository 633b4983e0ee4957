"""The learning rates that a training goes through, against numbers worked out by hand."""

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS
from recipes import MODERN, PRIMITIVES, load

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
    # 1e-5 of it in the first of 1000 iterations, a half cosine over epochs 151 to 300 to 1e-4.
    'detection/rtmdet_scopevit-tiny_8xb32-300e_coco.py': (
        10,
        {0: 2e-8, 999: 2e-3, 1500: 2e-3, 2250: 1.05e-3, 2999: 1e-4},
    ),
    # A tenth in the last of 12 epochs.
    'detection/dino-4scale_scopevit-tiny_8xb2-12e_coco.py': (
        10,
        {0: 1e-4, 109: 1e-4, 110: 1e-5, 119: 1e-5},
    ),
    # As UperNet's, of another rate.
    'segmentation/segformer_scopevit-tiny_8xb2-160k_ade20k-512x512.py': (
        None,
        {0: 6e-11, 750: 3.002e-5, 1499: 6e-5, 1500: 6e-5, 80750: 3e-5, 144150: 6e-6, 159999: 0},
    ),
    # As Semantic FPN's, of another length.
    'segmentation/mask2former_scopevit-tiny_8xb2-160k_ade20k-512x512.py': (
        None,
        {0: 1e-4, 80000: 5.35887e-5, 144000: 1.25893e-5, 159999: 0},
    ),
    # 1e-5 of it in the first of 1000 iterations, a half cosine over epochs 211 to 420 to 2e-4.
    'pose/rtmpose_scopevit-tiny_8xb128-420e_coco-256x192.py': (
        10,
        {0: 4e-8, 999: 4e-3, 2100: 4e-3, 3150: 2.1e-3, 4199: 2e-4},
    ),
    # A square over 5 epochs; then cosines of 280 epochs, from the 5th to the 280th of them, and of
    # 300 from there. It begins at 2.5 times the rate of step 2799, the 2749th of 2800 of a cosine:
    # 2e-4 + 1.9e-3 * 1.637e-3.
    'pose/rtmo_scopevit-tiny_8xb32-600e_coco-640x640.py': (
        10,
        {50: 4e-3, 2800: 5.07777e-4, 5999: 2e-4},
    ),
    # 1e-4 of it at first, all from the end of epoch 40, a half cosine over 260 epochs to 0.
    'classification/mocov3_scopevit-tiny_16xb256-300e_in1k.py': (
        10,
        {0: 2.4e-7, 399: 2.4e-3, 400: 2.4e-3, 1700: 1.2e-3, 2999: 8.76e-10},
    ),
}
# Which train as another does.
SAME = {
    'detection/rtmdet-ins_scopevit-tiny_8xb32-300e_coco.py': (
        'detection/rtmdet_scopevit-tiny_8xb32-300e_coco.py'
    ),
    'detection/cascade-mask-rcnn_scopevit-tiny_fpn_1x_coco.py': (
        'detection/mask-rcnn_scopevit-tiny_fpn_1x_coco.py'
    ),
    'classification/scopevit-tiny_8xb128-ema_in1k.py': (
        'classification/scopevit-tiny_8xb128_in1k.py'
    ),
    'pose/td-hm_scopevit-tiny_8xb32-210e_coco-384x288.py': (
        'pose/td-hm_scopevit-tiny_8xb32-210e_coco-256x192.py'
    ),
}


# The 368,750 iterations of these would take long.
LONG = [recipe for recipe in MODERN if '-lsj-50e_coco' in recipe]
SHORT = [recipe for recipe in MODERN if recipe not in LONG]


@pytest.mark.parametrize('recipe', LONG)
def test_rate_of_a_long_training_falls_by_steps(recipe):
    cfg = load(recipe)
    steps = cfg.param_scheduler
    assert (steps.type, steps.milestones, steps.gamma) == ('MultiStepLR', [327778, 355092], 0.1)
    assert (steps.by_epoch, steps.end) == (False, cfg.train_cfg.max_iters)


@pytest.mark.parametrize('recipe', [*PRIMITIVES, *SHORT])  # others differ in the model alone
def test_learning_rates_are_worked_out(recipe):
    epoch_length, expected = RATES[SAME.get(recipe, recipe)]
    rates = learning_rates(load(recipe), epoch_length)
    assert {i: rates[i] for i in expected} == pytest.approx(expected, rel=2e-4, abs=1e-12)
    assert len(rates) == max(expected) + 1


def learning_rates(cfg: dict, epoch_length: int | None) -> list[float]:
    """Steps the schedulers of a config as the Runner does, which trains by epochs or iterations."""
    rate = cfg.optim_wrapper.optimizer.lr
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    default_args = dict(optimizer=optimizer, epoch_length=epoch_length)
    with PARAM_SCHEDULERS.switch_scope_and_registry(cfg.default_scope) as registry:
        schedulers = [
            registry.build(scheduler.copy(), default_args=default_args)
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
