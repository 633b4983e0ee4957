"""Configs of all four libraries, one of each of a few families, by the tool."""

import json

import pytest

FAMILIES = {
    'mmdet': ['rpn', 'retinanet', 'solo'],
    'mmseg': ['fcn', 'segformer', 'knet'],
    'mmpretrain': ['mobilenet_v2', 'simsiam', 'mae'],
    'mmpose': [
        'body_2d_keypoint/simcc', 'body_2d_keypoint/dekr', 'body_3d_keypoint/image_pose_lift',
    ],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize('library', FAMILIES)
def test_a_sample_works(process, tmp_path, library):
    command = ['tools/compat/zoo.py', '--sample', '--libraries', library, '--out', tmp_path]
    page = tmp_path / 'page.md'
    page.write_text('before\n<!-- begin: tools/compat/zoo.py --><!-- end: tools/compat/zoo.py -->')
    done = process(*command, '--families', *FAMILIES[library], '--page', page)
    assert done.returncode == 0, done.stderr[-2000:]
    _, *lines = (tmp_path / 'results.jsonl').read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert [line for line in found if line['kind'] != 'works'] == []
    assert len(found) == len(FAMILIES[library])
    assert all(f'\n| {library}/{family} ' in page.read_text() for family in FAMILIES[library])
    assert page.read_text().startswith('before\n')


def test_arguments_are_checked(fails, tmp_path):
    out = ['--out', tmp_path / 'out']
    assert fails('compat/zoo', '--families', 'yolo9', *out).startswith(
        "error: --families: no folder 'yolo9'; there are "
    )
    missing = tmp_path / 'missing.md'
    assert 'cannot read' in fails('compat/zoo', '--page', missing, *out)
    assert '--jobs takes a whole number above 0' in fails('compat/zoo', '--jobs', '0')
