"""The command, its table and picture, and the part of it that a training begins with."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from checked_sets import detection_set, noise
from mmengine.config import Config
from PIL import Image
from tasks import DEMO, copy_coco

from scopevit.errors import InputError
from scopevit.own_data.new import new_config
from scopevit.preflight.data import check_data
from scopevit.preflight.findings import Finding, merge
from scopevit.preflight.picture import draw_report
from scopevit.preflight.pictured import choose
from scopevit.preflight.report import ModelReport
from scopevit.preflight.run import run_check
from scopevit.preflight.samples import Part
from scopevit.preflight.table import print_counts, print_table, summarize
from scopevit_command import main


def edit_json(path: Path, change) -> None:
    content = json.loads(path.read_text())
    for annotation in content['annotations']:
        change(annotation)
    path.write_text(json.dumps(content))


def to_corners(annotation: dict) -> None:
    x, y, width, height = annotation['bbox']
    annotation['bbox'] = [x, y, x + width, y + height]


@pytest.fixture
def check(capsys):
    """A function that checks a config: exit code and what was printed."""

    def run(config: Path, *options: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(['check', str(config), *options])
        return code, capsys.readouterr().out

    return run


# The command


def own_data(name: str, folder: Path) -> Path:
    """Writes data for `scopevit new`; returns what to give it."""
    data = folder / 'data'
    if name == 'classification':
        for k, label in enumerate(('cat', 'dog')):
            (data / label).mkdir(parents=True)
            for i in range(8):
                cv2.imwrite(str(data / label / f'{i}.png'), noise(20 * k + i))
    elif name == 'segmentation':
        for kind in ('images', 'masks'):
            (data / kind).mkdir(parents=True)
        for i in range(8):
            cv2.imwrite(str(data / 'images' / f'{i}.png'), noise(i))
            labels = np.arange(64, dtype=np.uint8)[None] // 22 + np.zeros((48, 1), np.uint8)
            cv2.imwrite(str(data / 'masks' / f'{i}.png'), labels)
    else:
        part, task = (
            ('nuclei', 'instances') if name == 'detection' else ('pose', 'person_keypoints')
        )
        source = DEMO / part
        annotations = source / 'annotations' / f'{task}_train.json'
        copy_coco(annotations, source / 'images' / 'train', 8, data / 'a.json')
    return data


@pytest.mark.parametrize('name', ['classification', 'detection', 'segmentation', 'pose'])
def test_own_data_have_no_faults(name, tmp_path, check):
    config = new_config(name, own_data(name, tmp_path), 'xtiny', out=tmp_path / 'own.py')
    picture, report = tmp_path / 'a' / 'check.png', tmp_path / 'check.json'
    code, said = check(config, '--quick', '--out', str(picture), '--json', str(report))
    content = json.loads(report.read_text())
    assert code == 0, said
    assert [f for f in content['findings'] if f['level'] != 'note'] == []
    assert '0 errors, 0 warnings' in said
    assert Image.open(picture).size[0] == 1600
    assert not (tmp_path / 'work_dirs').exists()


def test_faults_as_a_process(make_task, process):
    task = make_task('detection')
    edit_json(task.data / 'instances.json', to_corners)
    done = process('-m', 'scopevit', 'check', task.config, '--quick')
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    head = next(i for i, line in enumerate(lines) if line.split() == ['what', 'where', 'count'])
    assert lines[head + 1].split()[:6] == ['error', 'boxes', 'look', 'like', 'xyxy', 'train']
    assert lines[-1] == '2 errors, 1 warning, 0 notes'
    assert 'Traceback' not in done.stderr


def test_bad_arguments(make_task, capsys, tmp_path):
    assert main(['check', str(tmp_path / 'none.py')]) == 1
    assert capsys.readouterr().err == f'error: config not found: {tmp_path / "none.py"}\n'
    assert main(['check', str(make_task('pose').config), '--out', 'a.jpg']) == 1
    assert 'FILE.png, not a.jpg' in capsys.readouterr().err
    with pytest.raises(SystemExit) as error:
        main(['check', 'config.py', '--no-such-option'])
    assert error.value.code == 2


def test_missing_files_are_findings(make_task, check):
    task = make_task('classification')
    (task.data / 'labels.txt').unlink()
    code, said = check(task.config, '--quick')
    assert code == 1 and 'annotation file not found' in said


def test_check_without_training_data(make_task):
    task = make_task('pose')
    with pytest.raises(InputError, match='has no train_dataloader'):
        run_check(task.config, cfg_options={'train_dataloader': None}, quick=True)


def test_model_is_tried_where_the_data_have_no_errors(make_task, monkeypatch, capsys):
    task, tried = make_task('detection'), []

    def check_model(cfg, library, say) -> ModelReport:
        tried.append(library.name)
        found = Finding('error', 'loss is NaN', 'train', 1, 'the loss is NaN')
        return ModelReport([found], [('memory of a step', '1.2 GiB')])

    monkeypatch.setattr('scopevit.preflight.run.check_model', check_model)
    assert run_check(task.config, work_dir=str(task.work_dir)) == 1
    out = capsys.readouterr().out
    assert tried == ['mmdet'] and (task.work_dir / 'check.png').is_file()
    assert '\nmemory of a step  1.2 GiB\n' in out and '1 error, 2 warnings' in out
    edit_json(task.data / 'instances.json', to_corners)
    assert run_check(task.config, work_dir=str(task.work_dir)) == 1
    assert tried == ['mmdet']
    assert 'the model is not tried while the data have errors' in capsys.readouterr().out


# What a training begins with


def test_train_refuses_corners(make_task, fails):
    task = make_task('detection')
    edit_json(task.data / 'instances.json', to_corners)
    line = fails('train', task.config, '--work-dir', task.work_dir)
    assert 'it looks like x1, y1, x2, y2, where x, y, width, height is meant; ' in line
    assert line.endswith(f'`scopevit check {task.config}` tells all')
    assert not task.work_dir.exists()


def test_train_refuses_boxes_far_outside(make_task, fails):
    task = make_task('detection')

    def move(annotation: dict) -> None:
        annotation['bbox'][0] += 1000

    edit_json(task.data / 'instances.json', move)
    assert 'lies outside of the image of 250x250' in fails('train', task.config)


def test_train_refuses_reduce_zero_label_that_takes_a_class(make_task, fails):
    task = make_task('segmentation')
    # Each map has all labels, as those of many images together.
    for path in (task.data / 'masks').iterdir():
        labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        labels[0, :4] = 0, 1, 2, 3
        cv2.imwrite(str(path), labels)
    task.edit("type='BaseSegDataset',", "type='BaseSegDataset', reduce_zero_label=True,")
    line = fails('train', task.config, '--work-dir', task.work_dir)
    assert 'reduce_zero_label=True takes label 0, background, away' in line
    assert not task.work_dir.exists()


def test_train_logs_what_may_be_meant(make_task, tool):
    task = make_task('classification')
    code, err = tool('train', task.config, '--work-dir', task.work_dir)
    assert code == 0, err
    log = next(task.work_dir.rglob('*.log')).read_text()
    assert 'WARNING - split is train itself (val, 8): val_dataloader.dataset has the images' in log


def test_train_leaves_strange_data_sets_to_their_library(make_task, fails):
    task = make_task('classification')
    line = fails('train', task.config, '--cfg-options', 'train_dataloader.dataset.anns=1')
    assert "unexpected keyword argument 'anns'" in line and 'scopevit check' not in line


# Table and picture


def finding(level: str, what: str = 'x', count: int = 1, files: tuple[str, ...] = ()) -> Finding:
    return Finding(level, what, 'train', count, f'about {what}', files)


def test_findings_are_summed_and_sorted():
    found = merge([finding('note', 'a', 2), finding('error', 'b', 1, ('p',)),
                   finding('note', 'a', 3), finding('error', 'b', 4, ('q',))])  # fmt: skip
    assert [(f.level, f.what, f.count, f.files) for f in found] == [
        ('error', 'b', 5, ('p', 'q')), ('note', 'a', 5, ()),
    ]  # fmt: skip
    assert summarize(found) == '1 error, 0 warnings, 1 note'


def test_table_has_an_end():
    said: list[str] = []
    print_table([finding('error', f'fault {i}', 1000 * i) for i in range(30)], said.append)
    assert said[0].split() == ['what', 'where', 'count']
    assert said[2] == '       about fault 0'
    assert said[3] == 'error  fault 1   train   1,000'
    assert said[-1] == '10 more; --json FILE has all'
    assert len(said) == 1 + 2 * 20 + 1


def test_counts_show_the_most_and_the_least_frequent():
    said: list[str] = []
    names = tuple(f'c{i}' for i in range(30))
    print_counts(names, dict(train=np.arange(30), val=np.ones(30, int)), said.append)
    assert [line.split() for line in said[:2]] == [['class', 'train', 'val'], ['c29', '29', '1']]
    assert said[-2:] == ['... 15 more ...', 'c0         0    1']
    assert len(said) == 1 + 15 + 1


def test_samples_with_findings_come_first_one_of_each_kind():
    files = [f'{i}.png' for i in range(10)]
    part = Part('train', 'mmdet', {}, 'key', files=files)
    marked = {'3.png': 'far', '4.png': 'far', '5.png': 'empty'}
    rows = [row for _, row in choose([part], marked, 4)]
    assert rows[:3] == [3, 5, 4]
    assert rows[3:5] == [0, 6]  # then from all over: 0, 3, 6 and 9
    assert len(rows) == len(set(rows)) == 10


@pytest.mark.parametrize('count', [4, 64])
def test_picture_of_strange_names(count, tmp_path):
    """Signs of formulas, classes that never occur, and more than there is room for."""
    names = ['a$b$', '$', r'\x', 'Straße', *(f'class {i} of a very long name' for i in range(60))]
    checked = detection_set(tmp_path)
    for split, content in checked.coco.items():
        content['categories'] = [dict(id=1 + i, name=names[i]) for i in range(count)]
        dataset = checked.cfg[f'{split}_dataloader']['dataset']
        dataset['metainfo'] = dict(classes=names[:count])
    checked.image('train', 1).unlink()
    checked.image('train', 0).rename(tmp_path / 'train' / '$x^$.png')
    checked.coco['train']['images'][0]['file_name'] = '$x^$.png'
    checked.findings()
    (tmp_path / 'own_$x.py').touch()
    cfg = Config(checked.cfg, filename=tmp_path / 'own_$x.py')
    report = check_data(cfg)
    draw_report(tmp_path / 'check.png', cfg, report, report.findings)
    assert Image.open(tmp_path / 'check.png').size[0] == 1600
