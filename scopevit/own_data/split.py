"""Which images are for training and which for validation."""

import random
from collections import Counter, defaultdict

from scopevit.errors import InputError
from scopevit.own_data.samples import OwnData, OwnImage

SEED = 0
VAL_SHARE = 0.2
DRAWS = 20
FEW = 1000  # images; of more, one draw is as good as another
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
    if data.skeleton is None:  # in pose, all classes are learned as one
        note_absent(data)


def note_absent(data: OwnData) -> None:
    """Notes classes that are not learned, or whose metric nobody will see."""
    for split, verb in (('train', 'train'), ('val', 'validate')):
        names = [name for name, count in zip(data.classes, data.counts(split)) if not count]
        if names:
            more = f' and {len(names) - 5} more' if len(names) > 5 else ''
            data.notes.append(f'nothing of {", ".join(names[:5])}{more} to {verb} on')


def draw_validation(data: OwnData) -> None:
    """Draws a fifth of the training images, at least one, for validation.

    Of several draws, the one counts in which the classes' shares of objects are nearest to a fifth:
    one of few images may have most of the objects.
    """
    images = data.part('train')
    if len(images) < 2:
        raise InputError(f'{data.root}: {len(images)} annotated images; it takes two or more')
    counts = [Counter(image.labels()) for image in images]
    drawn = min(
        (draw_stratified(images, SEED + i) for i in range(DRAWS if len(images) < FEW else 1)),
        key=lambda indices: imbalance(counts, indices),
    )
    for i in drawn:
        images[i].split = 'val'
    data.notes.append(f'{len(drawn)} of {len(images)} images drawn for validation (seed {SEED})')


def draw_stratified(images: list[OwnImage], seed: int) -> list[int]:
    """Returns the indices of a fifth of images, at least one."""
    strata = defaultdict(list)
    for i, stratum in enumerate(rarest_classes(images)):
        strata[stratum].append(i)
    drawn: list[int] = []
    draw, share = random.Random(seed), 0.0
    for stratum in sorted(strata):
        members = strata[stratum]
        draw.shuffle(members)
        # Shares add up, so that strata of one or two images have their part, too.
        share += len(members) * VAL_SHARE
        drawn += members[: min(round(share) - len(drawn), len(members) - 1)]
    labelled = [i for i, image in enumerate(images) if image.labels()]
    return drawn or [draw.choice(labelled or range(len(images)))]


def imbalance(counts: list[Counter[int]], drawn: list[int]) -> float:
    """Returns how many objects a draw has too many or too few of, over the classes."""
    total: Counter[int] = sum(counts, Counter())
    found: Counter[int] = sum((counts[i] for i in drawn), Counter())
    return sum(abs(found[label] - VAL_SHARE * count) for label, count in total.items())


def rarest_classes(images: list[OwnImage]) -> list[int]:
    """Returns the class of each image that is the rarest in the data, -1 where it has none."""
    labels = [set(image.labels()) for image in images]
    counts = Counter(label for found in labels for label in found)
    return [min(found, key=lambda i: (counts[i], i), default=-1) for found in labels]
