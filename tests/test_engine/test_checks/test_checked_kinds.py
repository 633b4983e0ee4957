"""Parts of a config that are no dict, or no list of dicts, are named by their keys."""

import pytest
from mmengine.config import Config

from scopevit.engine.checks.kinds import check_kinds
from scopevit.engine.config import load_config
from scopevit.errors import InputError


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('model = 3', 'model must be a dict, not 3'),
        ('model = dict(backbone=3)', 'model.backbone must be a dict, not 3'),
        ('model = 3.5', 'model must be a dict, not 3.5'),
        ("optim_wrapper = dict(optimizer='SGD')", "optimizer must be a dict, not 'SGD'"),
        ('train_dataloader = [1]', r'train_dataloader must be a dict, not \[1\]'),
        ('val_dataloader = dict(dataset=3)', 'val_dataloader.dataset must be a dict'),
        (
            'test_dataloader = dict(dataset=dict(dataset=dict(pipeline=3)))',
            'test_dataloader.dataset.dataset.pipeline must be a list, not 3',
        ),
        (
            'test_dataloader = dict(dataset=dict(datasets=[dict(), dict(pipeline=[3])]))',
            'test_dataloader.dataset.datasets.1.pipeline.0 must be a dict, not 3',
        ),
        ("val_evaluator = 'mAP'", "val_evaluator must be a list, not 'mAP'"),
        ("val_evaluator = ['mAP']", "val_evaluator.0 must be a dict, not 'mAP'"),
        (
            "train_dataloader = dict(dataset=dict(metainfo='cat'))",
            "train_dataloader.dataset.metainfo must be a dict, not 'cat'",
        ),
        ('model = dict(test_cfg=5)', 'model.test_cfg must be a dict, not 5'),
        ('model = dict(test_cfg=dict(rcnn=dict(nms=5)))', 'model.test_cfg.rcnn.nms must be a dict'),
        ('model = dict(neck=[dict(), 5])', 'model.neck.1 must be a dict, not 5'),
        ('model = dict(roi_head=5)', 'model.roi_head must be a dict, not 5'),
        ("model = {'a': 1, \"b'c\": 2}", 'b.c. cannot be a key of model'),
        ("model = dict(neck={'a\\n': 1})", "'a.n' cannot be a key of model.neck"),
        ('model = [dict({None: 1})]', 'None cannot be a key of model.0'),
        ("model = {'class': 1}", "'class' cannot be a key of model"),
        ('custom_hooks = 3', 'custom_hooks must be a list, not 3'),
    ],
)
def test_other_kinds(text, message):
    with pytest.raises(InputError, match=f'^a.py: .*{message}'):
        check_kinds(Config.fromstring(text, '.py'), 'a.py')


def test_what_is_not_there_is_not_checked():
    check_kinds(Config.fromstring('model = None\ntest_dataloader = dict(dataset=None)', '.py'), '')


def test_a_key_of_a_yaml_file_that_is_no_name(tmp_path):
    path = tmp_path / 'a.yaml'
    path.write_text('model: {type: A}\ntrain cfg: {x: 1}\n')
    with pytest.raises(InputError, match="a.yaml: 'train cfg' cannot be a key$"):
        load_config(path)
    path.write_text('model: {type: A, days: [2024-01-02]}\n')
    with pytest.raises(InputError, match='model.days.0 is a date; as a text .* "2024-01-02"$'):
        load_config(path)
    path.write_text("model: {type: A, custom_keys: {'backbone.norm': 1, 3: 2, '.head': 3}}\n")
    assert "'backbone.norm': 1" in load_config(path).pretty_text
