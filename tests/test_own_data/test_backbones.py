"""Backbones of configs for own data."""

import pytest

from scopevit.errors import InputError
from scopevit.own_data.backbones import scopevit_backbone, timm_backbone


def test_sizes():
    assert scopevit_backbone('small').channels == [64, 128, 256, 512]
    assert scopevit_backbone('tiny').settings == dict(arch='tiny')


def test_maps_of_timm():
    found = timm_backbone('timm:resnet10t', last_only=False)
    # Its maps have strides 2, 4, 8, 16, 32.
    assert found.settings['out_indices'] == (1, 2, 3, 4)
    assert found.channels == [64, 128, 256, 512]
    assert timm_backbone('timm:resnet10t', last_only=True).channels == [512]


@pytest.mark.parametrize(
    ('name', 'line'),
    [
        ('resnet18', "takes timm:NAME, not 'resnet18'"),
        ('timm:resnet17', 'timm has no such network; did you mean'),
        ('timm:xyzzy', 'timm.list_models() has the names'),
        ('timm:vit_tiny_patch16_224', 'gives no maps of images of any size'),
    ],
)
def test_networks_that_do_not_fit(name, line):
    with pytest.raises(InputError) as caught:
        timm_backbone(name, last_only=False)
    assert line in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.slow
def test_maps_with_channels_last():
    with pytest.raises(InputError, match='no maps of images of any size|not \\(N, C, H, W\\)'):
        timm_backbone('timm:swin_tiny_patch4_window7_224', last_only=False)
