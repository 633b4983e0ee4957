"""The config of a classifier for own data."""

from scopevit.own_data.backbones import FETCH, timm_name
from scopevit.own_data.draft import Draft, median, multiple
from scopevit.own_data.samples import OwnImage
from scopevit.own_data.schedule import make_schedule

LARGEST = 256  # the recipe's images
CENTER = 0.9  # share of the short side that the recipe tests


def draft_classification(draft: Draft, epochs: int | None, backbone: str | None) -> None:
    """Fills in a draft for classification; `backbone` is a whole network of timm."""
    data = draft.data
    short = median(min(image.size) for image in data.images)
    size = multiple(short, 64, LARGEST)
    pixels = round(size**2 * draft.backbone.memory)
    draft.schedule = make_schedule(draft.recipe, len(data.part('train')), pixels, epochs)
    metainfo = dict(classes=draft.add_classes(palette=False)['classes'])
    count = len(data.classes)
    if backbone is None:
        head = dict(num_classes=count, in_channels=draft.backbone.channels[-1])
        draft.add('model', dict(backbone=draft.backbone.settings, head=head))
    else:
        network = dict(
            _delete_=True,
            type='TimmClassifier',
            model_name=timm_name(backbone),
            num_classes=count,
            pretrained=False,
            loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        )
        draft.add('model', network, FETCH)
    draft.add_steps(
        f'# The short sides of the images have {short} pixels (median); 64 to {LARGEST} are used.',
        [
            ('train_pipeline', 'RandomResizedCrop', 'scale', size),
            ('test_pipeline', 'ResizeEdge', 'scale', round(size / CENTER)),
            ('test_pipeline', 'CenterCrop', 'crop_size', size),
        ],
    )
    for split in ('train', 'val'):
        lines = [list_line(image) for image in data.part(split)]
        draft.files[f'{split}.txt'] = ''.join(lines)
    draft.add_loaders(
        dict(data_root=draft.root(), data_prefix='', metainfo=metainfo),
        lambda split: dict(ann_file=draft.beside(f'{split}.txt')),
    )
    draft.add_schedule('images')


def list_line(image: OwnImage) -> str:
    """Returns the line of an image in the list that mmpretrain reads."""
    return f'{image.file} {image.label}\n'
