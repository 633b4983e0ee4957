"""The config of a network for keypoints of own data."""

import json
import re

from scopevit.own_data.draft import Draft, colours, median
from scopevit.own_data.objects import to_coco
from scopevit.own_data.samples import OwnData, Skeleton
from scopevit.own_data.schedule import make_schedule
from scopevit.own_data.source import Name, assign

# Width and height of the network's input by the shape of the boxes: the recipe's 256x192 pixels,
# turned, or a square of about as many.
INPUTS = {'tall': (192, 256), 'wide': (256, 192), 'square': (224, 224)}
STRIDE = 4  # of heatmaps
SIGMAS = {  # of COCO: how far apart two people set a point, in parts of the object's size
    'nose': 0.026, 'eye': 0.025, 'ear': 0.035, 'shoulder': 0.079, 'elbow': 0.072, 'wrist': 0.062,
    'hip': 0.107, 'knee': 0.087, 'ankle': 0.089,
}  # fmt: skip
OTHER_SIGMA = 0.067  # mean of COCO's 17
OTHER_SIDE = {'left': 'right', 'l': 'r'}


def draft_pose(draft: Draft, epochs: int | None) -> None:
    """Fills in a draft for keypoints.

    Classes are left aside: mmpose's networks take objects of one kind.
    """
    data, skeleton = draft.data, draft.data.skeleton
    assert skeleton is not None
    size, shape = input_size(data)
    merge_classes(data)
    people = sum(len(image.objects) for image in data.part('train'))
    pixels = round(size[0] * size[1] * draft.backbone.memory)
    draft.schedule = make_schedule(draft.recipe, people, pixels, epochs)
    pairs = flip_pairs(skeleton)
    draft.files['skeleton.py'] = skeleton_source(draft.folder.name, skeleton, pairs or [])
    draft.bases.append(f'./{draft.folder.name}/skeleton.py')
    add_model(draft, size, shape, flips=pairs is not None)
    if pairs is None:
        data.notes.append('nothing says which keypoints are left and right: images are not flipped')
    for split in ('train', 'val'):
        draft.files[f'{split}.json'] = json.dumps(to_coco(data, split, with_masks=False))
    draft.add_loaders(
        dict(
            data_root=draft.root(),
            data_prefix=dict(img=''),
            metainfo=Name('_base_.dataset_info'),
        ),
        lambda split: dict(ann_file=draft.beside(f'{split}.json')),
        evaluator='val.json',
        val_pipeline='val_pipeline',
    )
    draft.add_schedule('objects')


def add_model(draft: Draft, size: tuple[int, int], shape: str, flips: bool) -> None:
    """Adds the network, its codec, and the pipelines that take it."""
    assert draft.data.skeleton is not None
    heatmap = (size[0] // STRIDE, size[1] // STRIDE)
    codec = dict(type='MSRAHeatmap', input_size=size, heatmap_size=heatmap, sigma=2)
    draft.add('codec', codec, shape)
    head = dict(
        in_channels=draft.backbone.channels[-1],
        out_channels=len(draft.data.skeleton.names),
        decoder=Name('codec'),
    )
    model: dict[str, object] = dict(backbone=draft.backbone.settings, head=head)
    if not flips:
        model['test_cfg'] = dict(flip_test=False)
    draft.add('model', model, draft.backbone.comment)
    changes: list[tuple[str, str, str, object]] = [
        ('train_pipeline', 'TopdownAffine', 'input_size', size),
        ('val_pipeline', 'TopdownAffine', 'input_size', size),
        ('train_pipeline', 'GenerateTarget', 'encoder', Name('codec')),
    ]
    if not flips:
        changes.append(('train_pipeline', 'RandomFlip', 'prob', 0.0))
    draft.add_steps('# Steps that depend on the size.', changes)


def input_size(data: OwnData) -> tuple[tuple[int, int], str]:
    """Returns width and height for the network's input, and where they come from."""
    ratio = median(o['bbox'][2] / o['bbox'][3] for image in data.images for o in image.objects)
    kind = 'tall' if ratio < 0.87 else 'wide' if ratio > 1.15 else 'square'
    return INPUTS[kind], f'The boxes are {ratio:.2g} times as wide as high (median).'


def merge_classes(data: OwnData) -> None:
    """Makes one class of several, and leaves out what has no keypoint to learn from."""
    kept = 0
    for image in data.images:
        objects = [o for o in image.objects if any(v > 0 for v in o['keypoints'][2::3])]
        kept += len(image.objects) - len(objects)
        image.objects = [dict(o, category=0) for o in objects]
    if kept:
        data.notes.append(f'{kept} objects without a visible keypoint are left out')
    if len(data.classes) > 1:
        data.notes.append(f'the classes {", ".join(data.classes)} are learned as one')
    data.classes = data.classes[:1] if len(data.classes) == 1 else ['object']


def flip_pairs(skeleton: Skeleton) -> list[tuple[int, int]] | None:
    """Returns the pairs of keypoints that change places in a flipped image.

    Returns:
        The annotated pairs, or those whose names differ by left and right (or l and r) alone; an
        empty list where names have neither; None where points have no names.
    """
    if skeleton.pairs is not None:
        return skeleton.pairs
    index = {words_of(name): i for i, name in enumerate(skeleton.names)}
    mirrored = {
        i: index.get(tuple(OTHER_SIDE.get(w, w) for w in words)) for words, i in index.items()
    }
    pairs = [(i, j) for i, j in mirrored.items() if j is not None and i != j]
    numbered = all(re.fullmatch(r'\D*\d+', name) for name in skeleton.names)
    return None if numbered and not pairs else pairs


def words_of(name: str) -> tuple[str, ...]:
    """Returns the words of a name, as (left, eye) of `left_eye`, `leftEye` and `lefteye`."""
    spaced = re.sub(r'([a-z])([A-Z])', r'\1 \2', name)
    spaced = re.sub(r'(left|right)', r' \1 ', spaced.lower())
    return tuple(re.findall(r'[a-z]+|\d+', spaced))


def skeleton_source(name: str, skeleton: Skeleton, pairs: list[tuple[int, int]]) -> str:
    """Returns the source of a `dataset_info`, as mmpose calls it."""
    names, swap = skeleton.names, {}
    for a, b in pairs:
        swap[a], swap[b] = names[b], names[a]
    hues = colours(max(len(names), len(skeleton.links)))
    points = {
        i: dict(id=i, name=point, color=list(hues[i]), type='', swap=swap.get(i, ''))
        for i, point in enumerate(names)
    }
    links = {
        i: dict(id=i, link=(names[a], names[b]), color=list(hues[i]))
        for i, (a, b) in enumerate(skeleton.links)
    }
    info = dict(
        dataset_name=name,
        keypoint_info=points,
        skeleton_info=links,
        joint_weights=[1.0] * len(names),
        sigmas=[sigma_of(point) for point in names],
    )
    comment = (
        'Sigmas are how far apart two people set a point, in parts of the size of the object: '
        f'those of COCO for points of its names, else {OTHER_SIGMA}, their mean. They decide what '
        'AP counts as found.'
    )
    return assign('dataset_info', info, comment) + '\n'


def sigma_of(name: str) -> float:
    """Returns the sigma of a keypoint by its name."""
    words = re.sub(r'[^a-z]+', ' ', name.lower()).split()
    return next((sigma for part, sigma in SIGMAS.items() if part in words), OTHER_SIGMA)
