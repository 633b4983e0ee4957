"""Tables to the letter, and plots whose labels can be read."""

import re
from itertools import combinations

import cv2
import pytest
from matplotlib.text import Annotation

from scopevit.errors import InputError
from scopevit.files import write_text
from scopevit.report import (
    Point,
    csv_table,
    markdown_table,
    number,
    replace_between,
    scatter_plot,
    size_text,
    spread,
    write_figure,
)


@pytest.mark.parametrize(
    'value, text',
    [(0, '0.00'), (0.05, '0.0500'), (0.2523, '0.252'), (9.999, '10.0'),
     (12.34, '12.3'), (99.97, '100'), (6397.6, '6398')],
)  # fmt: skip
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def test_quartiles_are_shown_where_they_differ():
    assert spread((1.0, 1.5, 20.0)) == '1.50 (1.00–20.0)'
    assert spread((1.0, 1.0, 1.0)) == '1.00'
    assert size_text((256, 192)) == '256×192'


def test_what_is_around_the_marks_stays():
    assert replace_between('a<b>old</b>c', '<b>', '</b>', 'new', 'x.md') == 'a<b>new</b>c'
    for text in ('a</b>c', '</b>a<b>'):
        with pytest.raises(InputError, match='x.md has no <b> ... </b>'):
            replace_between(text, '<b>', '</b>', 'new', 'x.md')


def test_markdown_to_the_letter():
    rows = [['a|b', '1.0'], ['two\nlines', '12.5']]
    assert markdown_table(['name', 'G'], rows) == (
        '| name         |    G |\n'
        '| ------------ | ---: |\n'
        '| a\\|b         |  1.0 |\n'
        '| two<br>lines | 12.5 |\n'
    )


def test_alignment_of_each_column():
    assert markdown_table(['a', 'b', 'c'], [['x', 'y', 'z']], align='rlr') == (
        '|   a | b   |   c |\n| --: | --- | --: |\n|   x | y   |   z |\n'
    )


def test_csv_to_the_letter():
    rows = [['a,b', 1, 2.5], ['say "c"', None, 0]]
    assert csv_table(['name', 'n', 'x'], rows) == 'name,n,x\n"a,b",1,2.5\n"say ""c""",,0\n'


# The published table: four systems at 79.8, three of them within 20 % of multiply-adds.
PUBLISHED = [
    ('Swin-2G', 2.0, 79.2), ('DeiT-S', 4.6, 79.8), ('PVT-Small', 3.8, 79.8), ('P2T-T', 1.8, 79.8),
    ('Shunted-T', 2.1, 79.8), ('EViT-S', 3.5, 80.0), ('ConvNeXt V2-P', 1.4, 80.3),
    ('MobileViTv2-1.5', 4.0, 80.4), ('CoaT Mini', 6.8, 80.8), ('MPViT-XS', 2.9, 80.9),
    ('CrossViT-S', 5.6, 81.0), ('ScopeViT-T', 2.0, 81.1),
]  # fmt: skip


@pytest.fixture
def points():
    return [Point(*entry, accent='Scope' in entry[0]) for entry in PUBLISHED]


def test_labels_neither_overlap_nor_leave_the_panel(points):
    figure = scatter_plot(points, 'multiply-adds (G)', 'top-1 (%)')
    axes = figure.axes[0]
    renderer = figure.canvas.get_renderer()
    boxes = [label.get_window_extent(renderer) for label in axes.texts]
    assert [type(label) for label in axes.texts] == [Annotation] * 12
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    frame = axes.get_window_extent(renderer)
    assert all(frame.x0 <= b.x0 and b.x1 <= frame.x1 for b in boxes)
    marks = [axes.transData.transform((point.x, point.y)) for point in points]
    assert not any(box.contains(*mark) for box in boxes for mark in marks)


def test_svg_has_its_text_as_text_and_is_the_same_every_time(points, tmp_path):
    texts = []
    for _ in range(2):
        figure = scatter_plot(points, 'multiply-adds (G)', 'top-1 (%)')
        write_figure(figure, tmp_path / 'plot.svg')
        texts.append((tmp_path / 'plot.svg').read_text())
    found = re.findall(r'<text[^>]*>([^<]+)</text>', texts[0])
    assert {name for name, _, _ in PUBLISHED} <= set(found)
    assert {'multiply-adds (G)', 'top-1 (%)'} <= set(found)
    assert texts[0] == texts[1]
    assert [path.name for path in tmp_path.iterdir()] == ['plot.svg']


def test_png_shows_accent_and_grey(points, tmp_path):
    write_figure(scatter_plot(points, 'x', 'y'), tmp_path / 'plot.png')
    image = cv2.imread(str(tmp_path / 'plot.png'))  # BGR
    assert (image == (0x00, 0x5E, 0xD5)).all(axis=2).sum() > 50
    assert (image == (0x66, 0x66, 0x66)).all(axis=2).sum() > 100


def test_a_panel_for_each_task_and_one_point_alone():
    points = [
        Point('a', 2.0, 5.0, panel='pose'),
        Point('b', 200.0, 1.0, panel='detection'),
        Point('c', 300.0, 0.5, (0.4, 0.7), panel='detection', hollow=True),
    ]
    figure = scatter_plot(points, 'x', 'y')
    assert [axes.get_title() for axes in figure.axes if axes.get_visible()] == ['pose', 'detection']
    assert [[t.get_text() for t in axes.texts] for axes in figure.axes] == [['a'], ['b', 'c']]
    for axes in figure.axes:
        assert len(axes.get_xticks()) >= 3
        low, high = axes.get_xlim()
        assert high / low >= 1.4


def test_text_is_written_whole(tmp_path):
    write_text(tmp_path / 'a.md', 'ä\n')
    assert (tmp_path / 'a.md').read_bytes() == 'ä\n'.encode()
    assert [path.name for path in tmp_path.iterdir()] == ['a.md']
