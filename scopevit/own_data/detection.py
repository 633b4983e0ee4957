"""The config of a detector for own data."""

import json
import math

from scopevit.own_data.draft import Draft, median, multiple
from scopevit.own_data.objects import to_coco
from scopevit.own_data.samples import OwnData
from scopevit.own_data.schedule import make_schedule

LONG, SHORT = 1333, 800  # the recipe's images
ENLARGE = 2.0  # at most
MOST_FOUND = 100  # objects an image, of the recipes and of COCO's metric
ANCHOR = 32  # smallest anchor of both recipes, pixels


def draft_detection(draft: Draft, epochs: int | None) -> None:
    """Fills in a draft for detection, with masks where the recipe is Mask R-CNN."""
    data, masks = draft.data, draft.recipe.base == 'mask-rcnn'
    scale = image_scale(data)
    with_objects = [image for image in data.part('train') if image.objects]
    pixels = round(math.prod(scale) * draft.backbone.memory)
    draft.schedule = make_schedule(draft.recipe, len(with_objects), pixels, epochs)
    empty = len(data.part('train')) - len(with_objects)
    if empty:
        data.notes.append(f'{empty} images without objects are left out of training')
    metainfo = draft.add_classes()
    add_model(draft, median_seen(data, scale))
    shown = ' x '.join(f'{round(s)}' for s in median_size(data))
    draft.add_steps(
        f'# The images have {shown} pixels (median); objects are {round(median_side(data))} wide.',
        [
            ('train_pipeline', 'RandomResize', 'scale', scale),
            ('test_pipeline', 'Resize', 'scale', scale),
        ],
    )
    for split in ('train', 'val'):
        draft.files[f'{split}.json'] = json.dumps(to_coco(data, split, masks))
    draft.add_loaders(
        dict(data_root=draft.root(), data_prefix=dict(img=''), metainfo=metainfo),
        lambda split: dict(ann_file=draft.beside(f'{split}.json')),
        evaluator='val.json',
    )
    draft.add_schedule('images')


def median_size(data: OwnData) -> tuple[float, float]:
    """Returns the median width and height of the images."""
    return median(i.size[0] for i in data.images), median(i.size[1] for i in data.images)


def median_side(data: OwnData) -> float:
    """Returns the median of the roots of the objects' areas, of their boxes, in pixels."""
    return median(
        math.sqrt(o['bbox'][2] * o['bbox'][3]) for image in data.images for o in image.objects
    )


def median_seen(data: OwnData, scale: tuple[int, int]) -> float:
    """Returns the median of these roots in pixels of the network, as each image is scaled."""
    long, short = max(scale), min(scale)
    factors = [min(long / max(i.size), short / min(i.size)) for i in data.images]
    return median(
        factor * math.sqrt(o['bbox'][2] * o['bbox'][3])
        for factor, image in zip(factors, data.images)
        for o in image.objects
    )


def image_scale(data: OwnData) -> tuple[int, int]:
    """Returns the size that images are scaled into, width and height.

    Images smaller than the recipe's are enlarged until half of the objects are as wide as its
    smallest anchor; larger ones are made smaller.
    """
    width, height = median_size(data)
    most = min(LONG / max(width, height), SHORT / min(width, height))
    wanted = min(ENLARGE, max(1.0, ANCHOR / median_side(data)))
    factor = min(most, wanted)
    return (
        multiple(width * factor, 64, LONG // 32 * 32 + 32),
        multiple(height * factor, 64, LONG // 32 * 32 + 32),
    )


def halvings(anchor: float, side: float) -> int:
    """Returns how often to halve an anchor until it is at most a fifth wider than objects."""
    return max(0, math.ceil(math.log2(anchor / side) - 0.25))


def add_model(draft: Draft, side: float) -> None:
    """Adds the network, its anchors fit for objects of a median width as the network sees them."""
    count, backbone = len(draft.data.classes), draft.backbone
    neck = dict(in_channels=backbone.channels)
    # 32 pixels where the objects are as large, else 16 or 8.
    halved = min(2, halvings(ANCHOR, side))
    comment = backbone.comment
    if halved:
        comment += (
            f' Anchors from {ANCHOR >> halved} pixels on, not from {ANCHOR}: half of the objects '
            f'are less than {math.ceil(side)} wide as the network sees them.'
        )
    model: dict[str, object] = dict(backbone=backbone.settings, neck=neck)
    most = max(len(image.objects) for image in draft.data.images)
    if most > MOST_FOUND:
        found = dict(max_per_img=100 * math.ceil(most / 100))
        model['test_cfg'] = dict(rcnn=found) if draft.recipe.base == 'mask-rcnn' else found
        draft.data.notes.append(
            f"an image has {most} objects; COCO's metric looks at the surest {MOST_FOUND} alone"
        )
    if draft.recipe.base == 'mask-rcnn':
        if halved:
            model['rpn_head'] = dict(anchor_generator=dict(scales=[8 >> halved]))
        heads = dict(bbox_head=dict(num_classes=count), mask_head=dict(num_classes=count))
        model['roi_head'] = heads
    else:
        head: dict[str, object] = dict(num_classes=count)
        if halved:
            head['anchor_generator'] = dict(octave_base_scale=4 >> halved)
        model['bbox_head'] = head
    draft.add('model', model, comment)
