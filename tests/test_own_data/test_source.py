"""Values as the source of configs."""

import pytest

from scopevit.own_data.source import WIDTH, Name, assign

VALUES = [
    dict(a=1, b=(1,), c=['x', "it's"], d={'k-1': None, 2: True}),
    [dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=40, begin=i) for i in range(3)],
    tuple(f'class {i}' for i in range(60)),
    dict(outer=dict(inner=dict(path='/' + 'long/' * 15, other='/' + 'long/' * 15, third=[1, 2]))),
    {i: dict(id=i, name='left_shoulder', color=[1, 2, 3], type='', swap='') for i in range(4)},
    ('one',),
    [],
]


@pytest.mark.parametrize('value', VALUES)
def test_source_gives_the_value_back(value):
    text = assign('value', value, 'why ' * 40)
    assert max(map(len, text.splitlines())) <= WIDTH
    scope = {}
    exec(text, scope)
    assert scope['value'] == value


def test_names_stand_without_quotes():
    scope = {}
    text = assign('value', {'a': Name('b * 2'), '**': Name('rest')})
    assert text == 'value = dict(a=b * 2, **rest)'
    exec(f'b, rest = 2, dict(c=3)\n{text}', scope)
    assert scope['value'] == dict(a=4, c=3)
