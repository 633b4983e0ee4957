"""Which images are drawn to validate on."""

from pathlib import Path

import pytest

from scopevit.own_data.samples import OwnData, OwnImage
from scopevit.own_data.split import complete_split


def data_of(*images: list[int], classes: int = 1) -> OwnData:
    """Images of objects of the given classes."""
    return OwnData(
        Path('data'),
        'a test',
        [f'c{i}' for i in range(classes)],
        [
            OwnImage(f'{i}.png', (9, 9), objects=[dict(category=label) for label in labels])
            for i, labels in enumerate(images)
        ],
    )


@pytest.mark.parametrize(
    ('counts', 'drawn'),
    [
        # Of 100 objects, 20 are to be drawn.
        ([60, 20, 10, 10], ['1.png']),
        ([1, 1, 78, 20], ['3.png']),
        # Images as good as each other: a fifth of them.
        ([4] * 10, None),
    ],
)
def test_objects_are_shared_by_a_fifth(counts, drawn):
    data = data_of(*([0] * count for count in counts))
    complete_split(data)
    found = [image.file for image in data.part('val')]
    assert found == drawn if drawn else len(found) == 2


def test_classes_are_shared_by_a_fifth():
    # Of 20 objects a class: the first and the last image would take away half of each.
    data = data_of([0] * 10, *([0, 1] for _ in range(10)), [1] * 10, classes=2)
    complete_split(data)
    assert data.counts('train') == [18, 18] and data.counts('val') == [2, 2]


def test_what_is_absent_is_noted():
    data = data_of([0] * 8, [1, 2], [0] * 2, classes=4)
    complete_split(data)
    assert [image.file for image in data.part('val')] == ['2.png']
    assert data.notes[1:] == ['nothing of c3 to train on', 'nothing of c1, c2, c3 to validate on']
