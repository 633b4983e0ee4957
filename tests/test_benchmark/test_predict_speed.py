"""Times of prediction against those of its parts."""

import re

import pytest

from scopevit.benchmark.predict_speed import PredictSpeed


def test_ratio_is_to_the_sum_of_the_parts():
    found = PredictSpeed(images=8, decoding=1.0, network=3.0, predictor=5.0, memory=0.0)
    assert found.ratio == 1.25


@pytest.mark.slow
def test_tool_measures_all_parts(load_main, capsys):
    load_main('benchmark/predict_speed')(
        ['scopevit-xtiny_8xb128_in1k', '--images', '4', '--batch-size', '2']
    )
    printed = capsys.readouterr().out
    assert '4 images of 640 x 480, batches of 2, scopevit-xtiny_8xb128_in1k' in printed
    seconds = [float(x) for x in re.findall(r'([\d.]+) s', printed)]
    assert len(seconds) == 3
    assert seconds[1] > 0 and seconds[2] > 0
    assert 'MiB' in printed
