"""tools/benchmark: tables, counts and speeds as a user asks for them, and bad input."""

import csv
import json
import re
from pathlib import Path

import pytest

from scopevit.benchmark.networks import Network
from scopevit.benchmark.speed import Timing

TABLE, GET_FLOPS, THROUGHPUT = 'benchmark/table', 'benchmark/get_flops', 'benchmark/throughput'
ROOT = Path(__file__).parents[2]
ZOO = ROOT / 'configs'


def test_table_of_recipes_and_timm_models(make_task, tool, tmp_path):
    task = make_task('classification')
    longer = task.config.with_name('classification-3x.py')
    longer.write_text(f'_base_ = {str(task.config)!r}\ntrain_cfg = dict(max_epochs=3)\n')
    task.work_dir.mkdir()
    metrics = {'config': 'elsewhere/classification-3x.py', 'metrics': {'accuracy/top1': 50.0}}
    (task.work_dir / 'metrics.json').write_text(json.dumps(metrics))
    out = tmp_path / 'out'
    code, err = tool(
        TABLE, task.config, longer, '--timm', 'test_vit', 'test_resnet', 'test_vit',
        '--out', out, '--work-dirs', tmp_path, '--max-minutes', '0.0001', '--plot', 'throughput',
        '--device', 'cpu',
    )  # fmt: skip
    assert code == 0, err
    assert len(re.findall('speed: round', err)) == 1
    names = ['plot.png', 'plot.svg', 'table.csv', 'table.json', 'table.md']
    assert sorted(path.name for path in out.iterdir()) == names

    with (out / 'table.csv').open() as file:
        rows = list(csv.DictReader(file))
    assert [row['model'] for row in rows] == [
        'classification', 'classification-3x', 'test_vit', 'test_resnet',
    ]  # fmt: skip
    assert [row['metrics'] for row in rows] == ['', 'top-1 50.0', '', '']
    assert [row['parameters'] for row in rows[2:]] == ['371240', '469688']
    assert all(float(row['batch8_median_seconds']) > 0 for row in rows)
    # The same network is measured once.
    assert rows[0]['batch1_median_seconds'] == rows[1]['batch1_median_seconds']

    raw = json.loads((out / 'table.json').read_text())
    assert raw['machine']['torch'] and raw['machine']['processor']
    assert raw['rows'][1]['scores'] == [
        {'name': 'top-1', 'mean': 50.0, 'deviation': None, 'runs': 1}
    ]
    assert raw['rows'][2]['timings']['cpu']['1']['seconds']
    report = (out / 'table.md').read_text()
    assert 'not trained yet' in report and 'top-1 50.0' in report
    svg = (out / 'plot.svg').read_text()
    # The two recipes are one point.
    assert svg.count('>classification</text>') == 2 and 'classification-3x' not in svg
    assert '>test_vit</text>' in svg


def test_table_goes_on_after_a_model_that_fails(make_task, tool, tmp_path):
    task = make_task('classification')
    task.edit("type='ScopeViT'", "type='ScopeVit'")
    code, err = tool(
        TABLE, task.config, '--timm', 'test_vit', '--out', tmp_path / 'out', '--no-speed'
    )
    assert code == 1
    assert 'error: 1 of 2 not fully measured: classification' in err
    assert re.search(r'not measured: .*classification\.py: .*ScopeVit is not in the', err)
    report = (tmp_path / 'out' / 'table.md').read_text()
    assert re.search('## Not measured\n\n- classification: .*ScopeVit is not in the', report)
    assert '| test_vit' in report
    assert 'latency' not in report


def test_table_goes_on_after_a_model_without_speed(make_task, tool, tmp_path, monkeypatch):
    task = make_task('classification')
    longer = task.config.with_name('classification-3x.py')
    longer.write_text(f'_base_ = {str(task.config)!r}\ntrain_cfg = dict(max_epochs=3)\n')
    make_input = Network.make_input

    def run_out_of_memory(self, batch_size=1, device='cpu'):
        if batch_size > 1 and self.source != 'timm':
            raise MemoryError('8 images are too many')
        return make_input(self, batch_size, device)

    monkeypatch.setattr(Network, 'make_input', run_out_of_memory)
    out = tmp_path / 'out'
    code, err = tool(
        TABLE, task.config, longer, '--timm', 'test_vit', '--device', 'cpu',
        '--max-minutes', '0.0001', '--out', out,
    )  # fmt: skip
    assert code == 1
    assert 'error: 2 of 3 not fully measured: classification, classification-3x' in err
    report = (out / 'table.md').read_text()
    reason = 'no speed on cpu: MemoryError: 8 images are too many'
    assert f'- classification: {reason}\n- classification-3x: {reason}\n' in report
    sizes = re.findall(r'\| (classification\S*) .* 64×64 .* see below \| +see below', report)
    assert sizes == ['classification', 'classification-3x']
    lines = {row['model']: row for row in csv.DictReader((out / 'table.csv').open())}
    assert float(lines['test_vit']['batch8_median_seconds']) > 0
    assert lines['classification']['batch1_median_seconds'] == ''
    assert int(lines['classification']['parameters']) > 0


def test_two_devices_share_the_time(load_main, tmp_path, monkeypatch):
    """The GPU is made up: its numbers are fixed, the way to the table is the tool's."""
    asked = []

    def speed(networks, options, deadline, estimates, failed):
        asked.append((options.device, deadline))
        seconds = {'cpu': 0.5, 'cuda': 0.01}[options.device]
        return [{size: Timing(size, [seconds]) for size in options.batch_sizes} for _ in networks]

    memory = {'cpu': 2**20, 'cuda': 2**21}
    monkeypatch.setattr(
        'scopevit.benchmark.rows.measure_memory', lambda network, device: memory[device]
    )
    monkeypatch.setattr('scopevit.benchmark.rows.measure_speed', speed)
    monkeypatch.setattr('scopevit.benchmark.run.available_devices', lambda: ('cpu', 'cuda'))
    monkeypatch.setattr(
        'scopevit.benchmark.run.describe_machine', lambda device: {'device': device}
    )
    monkeypatch.setattr('scopevit.benchmark.run.check_device', lambda device: None)
    load_main(TABLE)(['--timm', 'test_vit', '--max-minutes', '1e7', '--out', str(tmp_path)])
    report = (tmp_path / 'table.md').read_text()
    assert re.search(r'\| +1\.00 \| +500 \| +16\.0 \| +2\.00 \| +10\.0 \| +25600 \|', report)
    assert 'CPU: images/s at batch 8 ' in report and 'CUDA: images/s at batch 256 ' in report
    assert 'batch 8 (CPU), 256 (CUDA)' in (tmp_path / 'plot.svg').read_text()
    assert asked == [('cpu', pytest.approx(3e8, rel=0.1)), ('cuda', pytest.approx(6e8, rel=0.1))]


def test_published_table_beside_a_model(tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    published = tmp_path / 'published.yml'
    entry = 'params: 1.0\n  gflops: 0.1\n  resolution: 64\n  top1: 90.0\n  venue: here\n  config: '
    name = 'scopevit-xtiny_8xb128_in1k'
    published.write_text(f'- system: Mini\n  {entry}{name}\n- system: Lost\n  {entry}null\n')
    out = tmp_path / 'out'
    code, err = tool(TABLE, '--published', published, '--out', out, '--no-speed')
    assert code == 0, err
    report = (out / 'table.md').read_text()
    assert re.search(r'\| Mini .* not trained yet +\|\n\| Lost .* no library has it +\|', report)
    assert '## Models' not in report
    svg = (out / 'plot.svg').read_text()
    assert 'Mini (published)' in svg and 'Lost (published)' in svg


def test_old_plot_goes_where_there_is_nothing_to_plot(tool, tmp_path):
    (tmp_path / 'plot.svg').write_text('old')
    code, _ = tool(TABLE, '--timm', 'test_vit', '--no-speed', '--out', tmp_path)
    assert code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ['table.csv', 'table.json', 'table.md']


def test_flops_as_a_process(process):
    config = ZOO / 'classification' / 'scopevit-tiny_8xb128_in1k.py'
    done = process('tools/benchmark/get_flops.py', config, '--depth', 1)
    assert done.returncode == 0, done.stderr
    lines = [re.split(r' *\| *', line)[1:-1] for line in done.stdout.splitlines() if '|' in line]
    assert lines[0] == ['3×256×256', 'parameters (M)', 'multiply-adds (G)', 'share (%)']
    assert lines[2] == ['scopevit-tiny_8xb128_in1k', '8.007', '1.955', '100.0']
    assert [line[0] for line in lines[3:]] == ['backbone', 'head']


def test_flops_at_another_size(load_main, capsys):
    load_main(GET_FLOPS)(['test_resnet', '--shape', '64', '96', '--depth', '1'])
    out = capsys.readouterr().out
    assert '3×64×96' in out
    # Of 160x160: 0.1025 G, in proportion to the pixels but for the classifier.
    assert re.search(r'\| test_resnet +\| +0\.470 \| +0\.025 \| +100\.0 \|', out)


def test_throughput_of_two_models(load_main, capsys):
    load_main(THROUGHPUT)(
        ['test_vit', 'test_resnet', '--batch-sizes', '1', '2', '--max-minutes', '0.0001']
    )
    out = capsys.readouterr().out
    lines = [re.split(r' *\| *', line)[1:4] for line in out.splitlines() if '| test_' in line]
    assert lines == [
        ['test_vit', '160×160', '1'], ['test_vit', '160×160', '2'],
        ['test_resnet', '160×160', '1'], ['test_resnet', '160×160', '2'],
    ]  # fmt: skip
    assert 'OMP_WAIT_POLICY' in out


@pytest.mark.parametrize(
    'name, arguments, message',
    [
        (TABLE, [], 'nothing to measure'),
        (TABLE, ['no/such.py'], 'no config and no folder of configs: no/such.py'),
        (TABLE, ['--timm', 'test_vitt'], "timm has no model 'test_vitt'; did you mean test_vit"),
        (TABLE, ['--timm', 'test_vit', '--max-minutes', '-1'], '--max-minutes takes a number'),
        (TABLE, ['--timm', 'test_vit', '--shape', '0', '3'], '--shape takes a whole number'),
        (TABLE, ['--timm', 'test_vit', '--work-dirs', 'no/such'], 'no folder of work dirs'),
        (TABLE, ['--published', 'no.yml'], 'cannot read no.yml'),
        (TABLE, ['--timm', 'test_vit', '--out', 'setup.py'], '--out: cannot make the folder'),
        (
            TABLE,
            ['--timm', 'test_vit', '--no-speed', '--plot', 'throughput'],
            '--plot throughput needs the speed',
        ),
        (TABLE, ['--timm', 'test_vit', '--plot', 'metric'], '--plot metric: no metrics.json'),
        (GET_FLOPS, ['no_such_model'], "timm has no model 'no_such_model'"),
        (
            GET_FLOPS,
            ['test_vit', '--shape', '32', '33'],
            'test_vit does not run on images of 32x33',
        ),
        (GET_FLOPS, ['test_vit', '--depth', 'x'], '--depth takes a whole number above 0'),
        (THROUGHPUT, ['test_vit', '--batch-sizes', '0'], '--batch-sizes takes a whole number'),
        (THROUGHPUT, ['no/such.py'], 'config not found: no/such.py'),
    ],
)
def test_bad_input_is_one_line(fails, monkeypatch, name, arguments, message):
    monkeypatch.chdir(ROOT)
    assert message in fails(name, *arguments)


def test_a_page_that_is_no_text(fails, tmp_path):
    page = tmp_path / 'page.md'
    page.write_bytes(b'\xff')
    line = fails(
        'benchmark/backbone_speed', '--cases', 'inference-64x64-b1', '--out', tmp_path,
        '--page', page,
    )  # fmt: skip
    assert f'--page: {page} is no text in UTF-8: ' in line


def test_data_speed_says_what_is_missing(tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = ZOO / 'classification' / 'scopevit-xtiny_8xb128_in1k.py'
    code, err = tool('benchmark/data_speed', recipe, '--out', tmp_path / 'out')
    assert code == 1
    assert err.strip().splitlines()[-1].startswith('error: folder not found: data/imagenet')
    assert '--images DIR' in err and not (tmp_path / 'out').exists()
