"""Curves out of logs: hand-written ones, and one of a real training."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from scopevit.analysis.logs import analyze, default_keys, draw_curves, read_run, summarize
from scopevit.errors import InputError

# Epochs of 5 iterations, a line every 2 iterations of an epoch, as LoggerHook writes them.
EPOCH_1 = [
    {'lr': 0.1, 'loss': 4.0, 'time': 0.2, 'epoch': 1, 'iter': 2, 'step': 2},
    {'lr': 0.1, 'loss': 3.0, 'time': 0.4, 'epoch': 1, 'iter': 4, 'step': 4},
    {'accuracy/top1': 50.0, 'coco/bbox_mAP_l': -1.0, 'time': 9.0, 'step': 1},
]
EPOCH_2 = [
    {'lr': 0.1, 'loss': 2.0, 'time': 0.3, 'epoch': 2, 'iter': 7, 'step': 7},
    {'lr': 0.1, 'loss': 1.0, 'time': 0.3, 'epoch': 2, 'iter': 9, 'step': 9},
    {'accuracy/top1': 40.0, 'coco/bbox_mAP_l': -1.0, 'time': 9.0, 'step': 2},
]


def write_log(work_dir: Path, lines: list[dict], start: str = '20260101_000000') -> Path:
    """Writes the log of one start into a work dir."""
    path = work_dir / start / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(''.join(f'{json.dumps(line)}\n' for line in lines))
    return path


def values(run, key):
    iterations, numbers = run.curve(key)
    return dict(zip(iterations.tolist(), numbers.tolist()))


def test_validation_of_epochs_is_placed_at_their_last_iteration(tmp_path):
    write_log(tmp_path, EPOCH_1 + EPOCH_2)
    run = read_run(tmp_path, 'run')
    assert run.epoch_length == 5
    assert values(run, 'loss') == {2: 4.0, 4: 3.0, 7: 2.0, 9: 1.0}
    assert values(run, 'accuracy/top1') == {5: 50.0, 10: 40.0}
    # The time of validation is not that of training.
    assert values(run, 'time') == {2: 0.2, 4: 0.4, 7: 0.3, 9: 0.3}


def test_one_epoch_does_not_say_how_long_it_is(tmp_path):
    write_log(tmp_path, EPOCH_1)
    run = read_run(tmp_path, 'run')
    assert run.epoch_length is None
    assert values(run, 'accuracy/top1') == {4: 50.0}


def test_validation_by_iterations_stays_where_it_is(tmp_path):
    lines = [{'loss': 2.0, 'iter': 6, 'step': 6}, {'mIoU': 30.0, 'step': 8}]
    write_log(tmp_path, lines)
    assert values(read_run(tmp_path, 'run'), 'mIoU') == {8: 30.0}


def test_resumed_training_replaces_what_it_repeats(tmp_path):
    # Killed in the third epoch, resumed from the checkpoint of the second.
    killed = {'loss': 9.0, 'epoch': 3, 'iter': 12, 'step': 12}
    again = [{'loss': 0.5, 'epoch': 3, 'iter': 12, 'step': 12}, {'accuracy/top1': 60.0, 'step': 3}]
    write_log(tmp_path, again, '20260102_000000')
    write_log(tmp_path, [*EPOCH_1, *EPOCH_2, killed, {'accuracy/top1': 1.0, 'step': 3}])
    run = read_run(tmp_path, 'run')
    assert values(run, 'loss') == {2: 4.0, 4: 3.0, 7: 2.0, 9: 1.0, 12: 0.5}
    assert values(run, 'accuracy/top1') == {5: 50.0, 10: 40.0, 15: 60.0}


def test_training_from_scratch_replaces_an_earlier_one(tmp_path):
    write_log(tmp_path, EPOCH_1 + EPOCH_2)
    write_log(tmp_path, [{'loss': 8.0, 'epoch': 1, 'iter': 1, 'step': 1}], '20260102_000000')
    run = read_run(tmp_path, 'run')
    assert values(run, 'loss') == {1: 8.0}
    assert not run.val


def test_summary(tmp_path):
    write_log(tmp_path, EPOCH_1 + EPOCH_2)
    assert summarize(read_run(tmp_path, 'mine')).splitlines() == [
        'mine: 10 iterations (5 an epoch), 0.300 s each, last loss 1',
        '  accuracy/top1: highest 50 at iteration 5, epoch 1',
    ]


@pytest.mark.parametrize(
    ('key', 'expected'), [('NME', 'lowest 0.1 at iteration 8'), ('mIoU', 'highest 0.3 at iter')]
)
def test_summary_knows_errors_from_scores(key, expected, tmp_path):
    lines = [{'loss': 1.0, 'iter': 4, 'step': 4}]
    lines += [{key: v, 'step': s} for s, v in ((4, 0.3), (8, 0.1), (12, float('nan')))]
    write_log(tmp_path, lines)
    assert f'{key}: {expected}' in summarize(read_run(tmp_path, 'run'))


def test_unfinished_last_line_is_ignored(tmp_path):
    path = write_log(tmp_path, EPOCH_1)
    with path.open('a') as log:
        log.write('{"loss": 2.0, "ep')
    assert values(read_run(tmp_path, 'run'), 'loss') == {2: 4.0, 4: 3.0}


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (b'{"loss": 2.0, "ep\n', 'not a line of JSON'),
        (b'\xff\xfe\n', 'not a line of JSON'),
        (b'[' * 100_000 + b'\n', 'not a line of JSON'),
        (b'{"loss": 2.0, "iter": 3}\n', 'no step'),
        (b'[1]\n', 'no step'),
    ],
)
def test_damaged_line_is_named(text, message, tmp_path):
    path = write_log(tmp_path, EPOCH_1)
    path.write_bytes(path.read_bytes() + text + b'{"loss": 1.0, "iter": 9, "step": 9}\n')
    with pytest.raises(InputError, match=message) as error:
        read_run(tmp_path, 'run')
    assert f'{path}:4:' in str(error.value)


def test_one_panel_for_losses_one_for_metrics_one_a_rest(tmp_path):
    write_log(tmp_path, EPOCH_1 + EPOCH_2)
    figure = draw_curves([read_run(tmp_path, 'run')], ['loss', 'accuracy/top1', 'lr'])
    assert [axes.get_ylabel() for axes in figure.axes] == ['loss', 'accuracy/top1', 'lr']
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[2, 4], [4, 3], [7, 2], [9, 1]]
    assert figure.axes[1].lines[0].get_xydata().tolist() == [[5, 50], [10, 40]]


def test_curves_differ_in_colour_and_keys_in_style(tmp_path):
    names = ('one', 'two')
    for name in names:
        write_log(tmp_path / name, [{'loss': 2.0, 'loss_a': 1.0, 'iter': 3, 'step': 3}])
    figure = draw_curves([read_run(tmp_path / n, n) for n in names], ['loss', 'loss_a'])
    lines = figure.axes[0].lines
    assert [line.get_label() for line in lines] == [
        'one: loss', 'one: loss_a', 'two: loss', 'two: loss_a',
    ]  # fmt: skip
    colors, styles = zip(*((line.get_color(), line.get_linestyle()) for line in lines))
    assert len(set(colors)) == 4
    assert styles[0] == styles[2] != styles[1] == styles[3]


def test_scores_of_different_scale_are_in_panels_of_their_own(tmp_path):
    lines = [{'loss': 2.0, 'loss_a': 1.0, 'iter': 3, 'step': 3}]
    lines += [{'mIoU': 61.0, 'mAcc': 0.5, 'coco/AP': 0.4, 'coco/AP .5': 0.9, 'step': 3}]
    lines += [{'NME': 0.1, 'loss': 5.0, 'mAcc': 70.0, 'step': 4}]
    write_log(tmp_path, lines)
    run = read_run(tmp_path, 'run')
    keys = ['loss', 'loss_a', 'val/loss', 'mIoU', 'mAcc', 'coco/AP', 'coco/AP .5', 'NME']
    figure = draw_curves([run], keys)
    panels = {axes.get_ylabel(): axes.lines for axes in figure.axes}
    assert {name: [line.get_label() for line in lines] for name, lines in panels.items()} == {
        'loss': ['loss', 'loss_a', 'val/loss'],
        'validation, percent': ['mIoU', 'mAcc'],
        'validation, 0 to 1': ['coco/AP', 'coco/AP .5'],
        'NME': ['run'],
    }
    colors = [line.get_color() for lines in panels.values() for line in lines]
    assert len(set(colors)) == len(keys)


@pytest.mark.parametrize(
    ('metrics', 'expected'),
    [
        (['coco/bbox_mAP_50', 'coco/segm_mAP'], ['coco/segm_mAP']),
        (['coco/segm_mAP', 'coco/bbox_mAP'], ['coco/bbox_mAP', 'coco/segm_mAP']),
        (['aAcc', 'mIoU', 'mAcc'], ['mIoU']),
        (['coco/AP .5', 'coco/AP', 'coco/AR'], ['coco/AP']),
        (['accuracy/top1', 'accuracy/top5'], ['accuracy/top1']),
        (['single-label/f1-score', 'single-label/recall'], ['single-label/f1-score']),
    ],
)
def test_main_metrics_are_drawn_by_default(metrics, expected, tmp_path):
    scores = dict.fromkeys(metrics, 0.5)
    write_log(tmp_path, [{'loss': 2.0, 'iter': 3, 'step': 3}, {**scores, 'step': 3}])
    run = read_run(tmp_path, 'run')
    assert default_keys([run, run]) == ['loss', *expected, *expected]


def test_smoothing_averages_the_values_before(tmp_path):
    write_log(tmp_path, EPOCH_1 + EPOCH_2)
    figure = draw_curves([read_run(tmp_path, 'run')], ['loss'], smooth=3)
    raw, smooth = (line.get_ydata() for line in figure.axes[0].lines)
    np.testing.assert_allclose(raw, [4, 3, 2, 1])
    np.testing.assert_allclose(smooth, [4, 3.5, 3, 2])


def test_metric_that_training_logs_too_is_told_apart(tmp_path):
    write_log(tmp_path, [{'loss': 2.0, 'iter': 3, 'step': 3}, {'loss': 5.0, 'step': 3}])
    run = read_run(tmp_path, 'run')
    assert values(run, 'loss') == {3: 2.0}
    assert values(run, 'val/loss') == {3: 5.0}


def test_default_picture_is_beside_the_log(tmp_path):
    path = write_log(tmp_path / 'run', EPOCH_1)
    out, _ = analyze([tmp_path / 'run'])
    assert out == tmp_path / 'run' / 'curves.png'
    assert out.read_bytes().startswith(b'\x89PNG')
    out, summary = analyze([path])
    assert out == path.with_name('curves.png')
    assert summary.startswith('vis_data: 4 iterations')


def test_real_training_resumed(make_task, tool, tmp_path):
    task = make_task('classification')
    options = ('--work-dir', task.work_dir, '--cfg-options', 'default_hooks.logger.interval=1')
    options += ('default_hooks.logger.type=LoggerHook', 'train_cfg.max_epochs={}')
    for epochs in (2, 3):
        arguments = [str(option).format(epochs) for option in options]
        code, err = tool('train', task.config, '--resume', *arguments)
        assert code == 0, err
        time.sleep(1)  # mmengine names a run's folder by the second in which it began
    assert len(list(task.work_dir.glob('*/vis_data/scalars.json'))) == 2
    run = read_run(task.work_dir, 'run')
    # 8 samples in batches of 4
    assert run.epoch_length == 2
    assert list(values(run, 'loss')) == [1, 2, 3, 4, 5, 6]
    assert list(values(run, 'accuracy/top1')) == [2, 4, 6]
