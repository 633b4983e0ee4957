"""From rows to tables and points, to the letter."""

from pathlib import Path

import pytest

from scopevit.benchmark.complexity import Complexity
from scopevit.benchmark.metrics import Score
from scopevit.benchmark.networks import from_timm
from scopevit.benchmark.published import Published
from scopevit.benchmark.rows import Row
from scopevit.benchmark.speed import Timing
from scopevit.benchmark.table import (
    complexity_table,
    labels,
    metric_points,
    published_table,
    rows_csv,
    rows_table,
    short_name,
    speed_table,
    throughput_label,
    throughput_points,
)
from scopevit.report import Point

RECIPES = Path(__file__).parents[2] / 'configs' / 'classification'
CPU = {'cpu': (1, 8)}
BOTH = {'cpu': (1, 8), 'cuda': (1, 64)}


def make_rows():
    timings = {'cpu': {1: Timing(1, [0.02, 0.04, 0.03]), 8: Timing(4, [0.2])}}
    done = Row(
        'scopevit-tiny_8xb128_in1k',
        str(RECIPES / 'scopevit-tiny_8xb128_in1k.py'),
        'classification',
        'ScopeViT',
        (3, 256, 256),
        8_006_716,
        1_955_347_776,
        {'cpu': 8_650_752},
        timings,
        [Score('top-1', 81.14, 0.25, 3)],
    )
    broken = str(RECIPES / 'scopevit-small_8xb128_in1k.py')
    return [done, Row('broken', broken, scores=[Score('top-1', 70.0, None, 1)], error='why')]


def changed(row, **changes):
    return Row(**{**vars(row), **changes})


PUBLISHED = [
    Published('ScopeViT-T', 7.4, 2.0, 256, 81.1, 'this paper', 'scopevit-tiny_8xb128_in1k'),
    Published('Gone', 10, 2.5, 224, 80, "CVPR'2022", None),
    Published('Broken', 11, 3.0, 224, 79.9, "ICCV'2021", 'scopevit-small_8xb128_in1k'),
]


def cells(table):
    return [[cell.strip() for cell in line.split('|')[1:-1]] for line in table.splitlines()]


def test_models():
    table = cells(rows_table(make_rows(), CPU))
    assert table[0] == [
        'model', 'task', 'input', 'parameters (M)', 'multiply-adds (G)', 'peak memory (MiB)',
        'latency of batch 1 (ms)', 'images/s at batch 8', 'metric (%)',
    ]  # fmt: skip
    assert table[2] == [
        'scopevit-tiny_8xb128_in1k', 'classification', '256×256', '8.01', '1.96', '8.25',
        '30.0 (25.0–35.0)', '20.0 at batch 4', 'top-1 81.1 ± 0.2 (3 runs)',
    ]  # fmt: skip
    assert table[3] == ['broken', *[''] * 7, 'not measured, see below']


def test_models_without_speed():
    table = cells(rows_table(make_rows(), {'cpu': ()}))
    assert table[0][-2:] == ['peak memory (MiB)', 'metric (%)']
    assert len(table[2]) == 7


def both_devices():
    row = make_rows()[0]
    row.memory_bytes['cuda'] = 10 * 2**20
    row.timings['cuda'] = {1: Timing(1, [0.004]), 64: Timing(64, [0.08])}
    return row


def test_each_device_has_its_columns():
    table = cells(rows_table([both_devices()], BOTH))
    assert table[0][5:11] == [
        'CPU: peak memory (MiB)', 'CPU: latency of batch 1 (ms)', 'CPU: images/s at batch 8',
        'CUDA: peak memory (MiB)', 'CUDA: latency of batch 1 (ms)', 'CUDA: images/s at batch 64',
    ]  # fmt: skip
    assert table[2][5:11] == [
        '8.25', '30.0 (25.0–35.0)', '20.0 at batch 4', '10.0', '4.00', '800',
    ]  # fmt: skip
    lines = [line.split(',') for line in rows_csv([both_devices()], BOTH).splitlines()]
    values = dict(zip(*lines))
    assert (values['cpu_peak_memory_bytes'], values['cuda_peak_memory_bytes']) == (
        '8650752',
        '10485760',
    )
    assert (values['cpu_batch8_images'], values['cuda_batch64_median_seconds']) == ('4', '0.08')
    assert 'cuda_batch8_images' not in values
    points = throughput_points([both_devices()], {'cpu': 8, 'cuda': 64})
    assert [(point.panel, point.y) for point in points] == [
        ('classification, CPU', 20.0), ('classification, CUDA', 800.0),
    ]  # fmt: skip


def test_label_of_the_throughput():
    assert throughput_label({'cpu': 8}) == 'images per second at batch 8'
    both = {'cpu': 8, 'cuda': 256}
    assert throughput_label(both) == 'images per second at batch 8 (CPU), 256 (CUDA)'


def test_a_model_without_speed_keeps_its_size_and_metric():
    row = changed(make_rows()[0], timings={'cpu': {}}, error='no speed on cpu: why')
    assert cells(rows_table([row], CPU))[2][3:] == [
        '8.01', '1.96', '8.25', 'see below', 'see below', 'top-1 81.1 ± 0.2 (3 runs)',
    ]  # fmt: skip
    assert rows_csv([row], CPU).endswith(',no speed on cpu: why\n')
    assert throughput_points([row], {'cpu': 8}) == []
    assert len(metric_points([row], [])) == 1


def test_published_beside_measured():
    table = cells(published_table(PUBLISHED, make_rows(), CPU))
    assert table[2] == [
        'ScopeViT-T', 'this paper', '256×256', '7.4', '2.0', '81.1', '256×256', '8.01', '1.96',
        '8.25', '30.0 (25.0–35.0)', '20.0 at batch 4', '81.1 ± 0.2 (3 runs)',
    ]  # fmt: skip
    assert table[3] == [
        'Gone', "CVPR'2022", '224×224', '10.0', '2.5', '80.0', *[''] * 6, 'no library has it',
    ]  # fmt: skip
    assert table[4][-1] == 'not measured, see below'


def test_a_recipe_without_metrics_is_not_trained():
    row = make_rows()[0]
    row.scores = []
    assert cells(rows_table([row], CPU))[2][-1] == 'not trained yet'


def test_csv_has_everything_in_plain_units():
    lines = rows_csv(make_rows(), CPU).splitlines()
    assert lines[0].split(',')[:10] == [
        'model', 'source', 'task', 'backbone', 'channels', 'height', 'width', 'parameters',
        'multiply_adds', 'peak_memory_bytes',
    ]  # fmt: skip
    assert lines[1] == (
        f'scopevit-tiny_8xb128_in1k,{RECIPES}/scopevit-tiny_8xb128_in1k.py,classification,ScopeViT,3,256,256,8006716,'
        '1955347776,8650752,1,3,0.025,0.03,0.035,4,1,0.2,0.2,0.2,top-1 81.1 ± 0.2 (3 runs),'
    )
    assert lines[2] == f'broken,{RECIPES}/scopevit-small_8xb128_in1k.py{"," * 19}top-1 70.0,why'


def test_points_of_the_metric_are_hollow_where_published():
    # The model that failed has a metric, but no multiply-adds to draw it at.
    assert metric_points(make_rows(), PUBLISHED) == [
        Point(
            'scopevit-tiny',
            1.955347776,
            81.14,
            (pytest.approx(80.89), pytest.approx(81.39)),
            accent=True,
            panel='classification',
        ),
        Point('Gone (published)', 2.5, 80, hollow=True, panel='classification'),
        Point('Broken (published)', 3.0, 79.9, hollow=True, panel='classification'),
    ]


def test_recipes_of_one_network_are_one_point_of_the_throughput():
    first, broken = make_rows()
    longer = changed(first, name='long-scopevit-tiny_8xb128_in1k')
    points = throughput_points([longer, first, broken], {'cpu': 8})
    assert [(point.label, point.y, point.spread) for point in points] == [
        ('scopevit-tiny', 20.0, (20.0, 20.0))
    ]


def test_labels_tell_sizes_apart():
    first = make_rows()[0]
    larger = changed(first, name='scopevit-tiny_8xb64_in1k', shape=(3, 384, 288))
    assert labels([first, larger]) == ['scopevit-tiny 256×256', 'scopevit-tiny 384×288']


def test_labels_are_distinct():
    first = make_rows()[0]
    names = ['scopevit-tiny_8xb128_in1k', 'scopevit-tiny_8xb128-ema_in1k', 'resnet50_8xb32_in1k',
             'resnet50', 'resnet50', 'scopevit-small_8xb128_in1k']  # fmt: skip
    sources = ['a.py', 'b.py', 'c.py', 'd.py', 'timm', 'e.py']
    rows = [changed(first, name=n, source=s) for n, s in zip(names, sources)]
    assert labels(rows) == [
        'scopevit-tiny_8xb128_in1k', 'scopevit-tiny_8xb128-ema_in1k', 'resnet50_8xb32_in1k',
        'resnet50 (d.py)', 'resnet50 (timm)', 'scopevit-small',
    ]  # fmt: skip


@pytest.mark.parametrize(
    'name, short',
    [
        ('scopevit-tiny_8xb128_in1k', 'scopevit-tiny'),
        ('mask-rcnn_scopevit-small_fpn_ms-3x_coco', 'mask-rcnn_scopevit-small_fpn'),
        ('retinanet_scopevit-tiny_fpn_1x_coco', 'retinanet_scopevit-tiny_fpn'),
        ('upernet_scopevit-tiny_8xb2-160k_ade20k-512x512', 'upernet_scopevit-tiny'),
        ('td-hm_resnet50_8xb32-210e_coco-256x192', 'td-hm_resnet50'),
        ('deit_small_patch16_224', 'deit_small_patch16_224'),
    ],
)
def test_short_names(name, short):
    assert short_name(name) == short


def test_table_of_modules_leaves_out_what_has_no_size():
    network = from_timm('test_vit')
    modules = [
        Complexity('', 2_000_000, 4_000_000_000),
        Complexity('act', 0, 0),
        Complexity('head', 500_000, 1_000_000_000),
    ]
    assert complexity_table(network, modules) == (
        '| 3×160×160 | parameters (M) | multiply-adds (G) | share (%) |\n'
        '| --------- | -------------: | ----------------: | --------: |\n'
        '| test_vit  |          2.000 |             4.000 |     100.0 |\n'
        '| head      |          0.500 |             1.000 |      25.0 |\n'
    )


def test_table_of_speed_has_a_line_for_each_batch_size_that_was_run():
    network = from_timm('test_vit')
    one = Timing(1, [0.02])
    table = cells(speed_table([network], [{1: one, 8: one}]))
    assert table[2:] == [['test_vit', '160×160', '1', '1', '20.0', '50.0']]
