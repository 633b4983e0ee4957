"""Which images are for training and which for validation."""

import random
from collections import Counter, defaultdict

from scopevit.errors import InputError
from scopevit.own_data.samples import OwnData, OwnImage

SEED = 0
VAL_SHARE = 0.2
NAMES = {
    'train': 'train',
    'training': 'train',
    'val': 'val',
    'valid': 'val',
    'validation': 'val',
    'test': 'test',
    'testing': 'test',
}


def split_of(name: str) -> str | None:
    """Returns the split that a name speaks of, as `train`, `val2017`, `instances_valid`."""
    words = ''.join(c if c.isalpha() else ' ' for c in name.lower()).split()
    found = {NAMES[word] for word in words if word in NAMES}
    return found.pop() if len(found) == 1 else None


def folder_split(name: str) -> str | None:
    """Returns the split that a folder is called by, but for digits: `Train`, `val2017`."""
    return NAMES.get(name.lower().rstrip('0123456789'))


def complete_split(data: OwnData) -> None:
    """Sees to it that there are images to train on and images to validate on.

    Where the data name a part for testing and none to validate on, it takes that place. Where there
    is no such part, a fifth of the images is drawn, stratified by class; of an image with several
    objects, the class that is rarest in the data counts.

    Raises:
        InputError: If there are less than two images.
    """
    splits = {image.split for image in data.images}
    if 'val' not in splits and 'test' in splits:
        for image in data.part('test'):
            image.split = 'val'
        data.notes.append('the part for testing is the one to validate on')
    elif 'test' in splits:
        data.notes.append(f'{len(data.part("test"))} images for testing are left out')
    for image in data.images:
        image.split = image.split or 'train'
    if not data.part('val'):
        draw_validation(data)
    elif not data.part('train'):
        raise InputError(f'{data.root} has images to validate on, but none to train on')


def draw_validation(data: OwnData) -> None:
    """Draws a fifth of the training images, at least one, for validation."""
    images = data.part('train')
    if len(images) < 2:
        raise InputError(f'{data.root}: {len(images)} annotated images; it takes two or more')
    strata = defaultdict(list)
    for image, stratum in zip(images, rarest_classes(images)):
        strata[stratum].append(image)
    draw, drawn, share = random.Random(SEED), 0, 0.0
    for stratum in sorted(strata):
        members = strata[stratum]
        draw.shuffle(members)
        # Shares add up, so that strata of one or two images have their part, too.
        share += len(members) * VAL_SHARE
        count = min(round(share) - drawn, len(members) - 1)
        for image in members[:count]:
            image.split = 'val'
        drawn += count
    if not drawn:
        draw.choice([image for image in images if image.labels()] or images).split = 'val'
    data.notes.append(
        f'{len(data.part("val"))} of {len(images)} images drawn for validation (seed {SEED})'
    )


def rarest_classes(images: list[OwnImage]) -> list[int]:
    """Returns the class of each image that is the rarest in the data, -1 where it has none."""
    labels = [set(image.labels()) for image in images]
    counts = Counter(label for found in labels for label in found)
    return [min(found, key=lambda i: (counts[i], i), default=-1) for found in labels]
