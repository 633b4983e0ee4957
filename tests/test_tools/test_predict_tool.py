"""tools/benchmark/predict.py: table, numbers and page as a user asks for them, and bad input."""

import json

import pytest
import torch
from fake_cuda import needs_cuda_code

PREDICT = 'benchmark/predict'
PAGE = '# Page\n\n<!-- predicted -->\nold\n<!-- end of predicted -->\n\nMore.\n'


@needs_cuda_code
def test_prediction_in_a_page(make_task, load_main, capsys, tmp_path):
    task = make_task('classification')
    page, out = tmp_path / 'page.md', tmp_path / 'out'
    page.write_text(PAGE)
    load_main(PREDICT)([str(task.config), '--out', str(out), '--page', str(page)])
    (prediction,) = json.loads((out / 'predict.json').read_text())
    assert (prediction['name'], prediction['batch_size']) == ('classification', 4)
    report = (out / 'predict.md').read_text()
    assert report in capsys.readouterr().out
    assert 'nothing of it was measured' in report
    assert page.read_text() == PAGE.replace('old', f'\n{report}')


@needs_cuda_code
@pytest.mark.slow
def test_several_predictions_as_a_process(make_task, process, tmp_path):
    task = make_task('classification')
    larger = task.config.with_name('larger.py')
    larger.write_text(f'_base_ = {str(task.config)!r}\ntrain_dataloader = dict(batch_size=8)\n')
    done = process('tools/benchmark/predict.py', task.config, larger, '--out', tmp_path / 'out')
    assert done.returncode == 0, done.stderr
    first, second = json.loads((tmp_path / 'out' / 'predict.json').read_text())
    assert [first['name'], second['name']] == ['classification', 'larger']
    assert [first['batch_size'], second['batch_size']] == [4, 8]
    # All is twice as much but for the bias of positions.
    assert 1.8 < second['amp']['operations'] / first['amp']['operations'] < 2


@needs_cuda_code
def test_a_recipe_that_fails_leaves_nothing(make_task, fails, tmp_path):
    task = make_task('classification')
    task.edit("dict(type='SGD', lr=0.01)", "dict(type='Lion', lr=0.01)")
    page, out = tmp_path / 'page.md', tmp_path / 'out'
    page.write_text(PAGE)
    line = fails(PREDICT, task.config, '--out', out, '--page', page)
    assert 'optim_wrapper.optimizer.type must be one of Adam, AdamW, SGD' in line
    assert page.read_text() == PAGE
    assert not list(out.iterdir())


@needs_cuda_code
@pytest.mark.parametrize(
    'arguments, message',
    [
        (['no/such.py'], 'no config and no folder of configs: no/such.py'),
        (['--page', 'no/such.md'], '--page: cannot read no/such.md'),
        (['--shape', '0', '3'], '--shape takes a whole number above 0'),
    ],
)
def test_bad_input_is_one_line(fails, tmp_path, arguments, message):
    assert message in fails(PREDICT, '--out', tmp_path, *arguments)


@needs_cuda_code
@pytest.mark.parametrize('value', ['0', '-3', 'True', "'8'"])
def test_a_batch_that_is_none(make_task, fails, tmp_path, value):
    task = make_task('classification')
    with task.config.open('a') as config:
        config.write(f"\ntrain_dataloader['batch_size'] = {value}\n")
    said = f'train_dataloader.batch_size must be a whole number above 0, not {value}'
    assert fails(PREDICT, task.config, '--out', tmp_path / 'out').endswith(said)


@needs_cuda_code
def test_a_page_that_is_no_text(make_task, fails, tmp_path):
    page = tmp_path / 'page.md'
    page.write_bytes(b'\xff')
    line = fails(PREDICT, make_task('classification').config, '--out', tmp_path, '--page', page)
    assert f'--page: {page} is no text in UTF-8: ' in line


def test_a_torch_for_cpus_is_one_line(fails, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, 'is_built', lambda: False)
    out = tmp_path / 'out'
    assert 'is built for CPUs alone' in fails(PREDICT, '--out', out)
    assert not out.exists()
