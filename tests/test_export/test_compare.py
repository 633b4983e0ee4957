"""Deviations whose values are worked out by hand."""

import numpy as np
import pytest

from scopevit.export.compare import EXACT, HALF, compare, problem


def objects(*rows: tuple[float, float, float, float, float, int]) -> dict[str, np.ndarray]:
    array = np.array(rows, np.float64).reshape(-1, 6)
    return {'boxes': array[:, :4], 'scores': array[:, 4], 'labels': array[:, 5].astype(int)}


def test_numbers_are_compared_relative_to_the_largest() -> None:
    found = compare({'map': np.array([[2.0, -4.0]])}, {'map': np.array([[2.0, -4.4]])})
    assert found == {'map: relative deviation': pytest.approx(0.1)}
    assert 'map' in (problem(found) or '')


def test_classes_are_compared_by_pixel() -> None:
    one, other = np.zeros((1, 2, 2), np.uint8), np.array([[[0, 1], [0, 0]]], np.uint8)
    assert compare({'classes': one}, {'classes': other}) == {'classes: share of equal pixels': 0.75}


def test_objects_match_in_any_order() -> None:
    a, b = (0, 0, 10, 10, 0.9, 1), (5, 5, 9, 9, 0.8, 0)
    found = compare(objects(a, b), objects(b, a))
    assert found['objects: share of matched ones'] == 1
    assert problem(found) is None


def test_a_box_of_no_width_matches_itself() -> None:
    flat = (128, 0, 128, 11, 0.4, 2)
    assert compare(objects(flat), objects(flat))['objects: share of matched ones'] == 1


def test_another_class_is_another_object() -> None:
    found = compare(objects((0, 0, 10, 10, 0.9, 1)), objects((0, 0, 10, 10, 0.9, 2)))
    assert found['objects: share of matched ones'] == 0
    assert 'matched' in (problem(found) or '')


def test_nothing_equals_nothing() -> None:
    assert problem(compare(objects(), objects())) is None


@pytest.mark.parametrize('value', [float('nan'), float('inf'), 2 * EXACT.deviation])
def test_what_is_no_agreement_is_a_problem(value: float) -> None:
    assert problem({'x: relative deviation': value}) is not None


def test_half_precision_is_allowed_more() -> None:
    deviations = {
        'x: relative deviation': 5e-3,
        'classes: share of equal pixels': 0.992,
        'objects: share of matched ones': 0.95,
    }
    assert problem(deviations, HALF) is None
    for name, value in deviations.items():
        assert problem({name: value}) is not None
    assert problem({'x: relative deviation': 2e-2}, HALF) is not None
