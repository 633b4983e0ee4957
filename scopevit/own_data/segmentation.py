"""The config of a network for semantic segmentation of own data."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from scopevit.own_data.draft import Draft, median, multiple
from scopevit.own_data.samples import OwnData, OwnImage
from scopevit.own_data.schedule import make_schedule

CROP = 512  # the recipe's
SHORTEST = 64
LARGEST = 1024  # short side of an image
WIDEST = 4  # how much longer the other side may be


def draft_segmentation(draft: Draft, epochs: int | None) -> None:
    """Fills in a draft for segmentation."""
    data = draft.data
    short = median(min(image.size) for image in data.images)
    # Small images are enlarged up to twice.
    size = multiple(max(short, min(CROP, 2 * short)), SHORTEST, LARGEST)
    crop = min(CROP, size)
    pixels = round(crop**2 * draft.backbone.memory)
    draft.schedule = make_schedule(draft.recipe, len(data.part('train')), pixels, epochs)
    metainfo = draft.add_classes()
    draft.add(
        'model',
        dict(
            data_preprocessor=dict(size=(crop, crop)),
            backbone=draft.backbone.settings,
            neck=dict(in_channels=draft.backbone.channels),
            decode_head=dict(num_classes=len(data.classes)),
        ),
        draft.backbone.comment,
    )
    scale = (WIDEST * size, size)
    draft.add_steps(
        f'# The short sides of the images have {short} pixels (median).',
        [
            ('train_pipeline', 'RandomResize', 'scale', scale),
            ('train_pipeline', 'RandomCrop', 'crop_size', (crop, crop)),
            ('test_pipeline', 'Resize', 'scale', scale),
        ],
    )
    places = add_maps(draft)
    draft.add_loaders(
        dict(data_root=draft.root(), metainfo=metainfo, **places),
        lambda split: dict(ann_file=draft.beside(f'{split}.txt')),
    )
    draft.add_schedule('images')


def add_maps(draft: Draft) -> dict[str, object]:
    """Adds lists of the images, and label maps that are not there as mmseg reads them.

    Returns:
        Folders and suffixes of images and label maps, for the data sets.
    """
    data = draft.data
    common = common_places(data)
    if common is None:
        for image in data.images:
            draft.files[f'maps/{image.file}.png'] = image.draw or copy_map(data, image)
        add_lists(draft, '', '')
        prefix = dict(img_path='', seg_map_path=draft.beside('maps'))
        return dict(data_prefix=prefix, img_suffix='')
    images, maps, suffix, map_suffix = common
    add_lists(draft, images, suffix)
    prefix = dict(img_path=images, seg_map_path=maps)
    return dict(data_prefix=prefix, img_suffix=suffix, seg_map_suffix=map_suffix)


def add_lists(draft: Draft, folder: str, suffix: str) -> None:
    """Adds lists of the images, without what the config says of all."""
    start = f'{folder}/' if folder else ''
    for split in ('train', 'val'):
        names = [image.file.removeprefix(start) for image in draft.data.part(split)]
        draft.files[f'{split}.txt'] = ''.join(f'{n.removesuffix(suffix)}\n' for n in names)


def common_places(data: OwnData) -> tuple[str, str, str, str] | None:
    """Returns what all images and all their maps have in common, as mmseg joins it.

    Returns:
        Folder of the images, of the maps, suffix of the images, of the maps; None where they differ
        from image to image, or maps must be drawn.
    """
    found = {places_of(image) for image in data.images}
    return found.pop() if len(found) == 1 else None


def places_of(image: OwnImage) -> tuple[str, str, str, str] | None:
    """Returns folders and suffixes of an image and its map; None where there is no such map."""
    if image.draw or image.label_map is None:
        return None
    file, label_map = PurePosixPath(image.file), PurePosixPath(image.label_map)
    if not label_map.name.startswith(file.stem):
        return None
    folders, map_folders = list(file.parts[:-1]), list(label_map.parts[:-1])
    while folders and map_folders and folders[-1] == map_folders[-1]:
        folders.pop()
        map_folders.pop()
    map_suffix = label_map.name.removeprefix(file.stem)
    return '/'.join(folders), '/'.join(map_folders), file.suffix, map_suffix


def copy_map(data: OwnData, image: OwnImage) -> Callable[[Path], object]:
    """Returns what writes a label map that is there."""
    source = data.root / str(image.label_map)
    return lambda target: target.write_bytes(source.read_bytes())
