"""From own data to a config: what `scopevit new` does."""

import re
import shlex
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from scopevit.errors import InputError
from scopevit.files import write_text
from scopevit.own_data.backbones import Backbone, scopevit_backbone, timm_backbone
from scopevit.own_data.classification import draft_classification
from scopevit.own_data.detection import draft_detection
from scopevit.own_data.draft import Draft, check_config_path
from scopevit.own_data.formats import read_data
from scopevit.own_data.objects import check_objects, check_validated, has_masks
from scopevit.own_data.pose import draft_pose
from scopevit.own_data.samples import OwnData
from scopevit.own_data.schedule import RECIPES
from scopevit.own_data.segmentation import draft_segmentation
from scopevit.own_data.split import complete_split

TASKS = ('classification', 'detection', 'segmentation', 'pose')


def new_config(
    task: str,
    source: str | Path,
    size: str = 'tiny',
    backbone: str | None = None,
    epochs: int | None = None,
    out: str | Path | None = None,
    force: bool = False,
    say: Callable[[str], object] = print,
) -> Path:
    """Writes a config that trains on own data, and beside it what the libraries read.

    Args:
        task: One of `TASKS`.
        source: Folder of the data, or the file that describes them.
        size: Size of ScopeViT.
        backbone: Network of timm in its place, `timm:NAME`.
        epochs: How many to train; by default as many as the number of images asks for.
        out: Config to write; by default `<task>_<name of the data>.py`.
        force: Whether to replace files that are there.
        say: Prints a line.

    Returns:
        The config.

    Raises:
        InputError: If something given is wrong; nothing is written then.
    """
    source = Path(source)
    if not source.exists():
        raise InputError(f'no such folder or file: {source}')
    name = source.absolute().name if source.is_dir() else source.absolute().parent.name
    default = f'{task}_{re.sub(r"[^0-9A-Za-z_-]+", "-", name) or "data"}.py'
    config = check_config_path(Path(out) if out else Path(default))
    check_free(config, force)
    check_apart(config.with_suffix(''), source.absolute())
    network = scopevit_backbone(size)
    if backbone and task != 'classification':
        network = timm_backbone(backbone, last_only=task == 'pose')
    data = read_data(task, source.absolute())
    if task in ('detection', 'pose'):
        check_objects(data)
    complete_split(data)
    if task in ('detection', 'pose'):
        check_validated(data)
    draft = make_draft(task, config, data, network, epochs, backbone)
    command = f'scopevit new {task} {shlex.quote(str(source))}'
    parts = [draft.recipe.name, backbone or network.name]
    title = f'{" with ".join(part for part in parts if part)} on {name}'
    write_draft(draft, draft.text(command, f'{title}: {summary(data)}.'))
    report(draft, say)
    return config


def make_draft(
    task: str,
    config: Path,
    data: OwnData,
    network: Backbone,
    epochs: int | None,
    backbone: str | None,
) -> Draft:
    """Returns the draft of a task's config."""
    if task == 'classification':
        draft = Draft(config, data, RECIPES['classification'], network)
        draft_classification(draft, epochs, backbone)
        return draft
    if task == 'detection':
        base = 'mask-rcnn' if has_masks(data) else 'retinanet'
        draft = Draft(config, data, RECIPES[base], network)
        draft_detection(draft, epochs)
        return draft
    if task == 'segmentation':
        draft = Draft(config, data, RECIPES['fpn'], network)
        draft_segmentation(draft, epochs)
        return draft
    if task == 'pose':
        draft = Draft(config, data, RECIPES['td-hm'], network)
        draft_pose(draft, epochs)
        return draft
    raise InputError(f'the task must be one of {", ".join(TASKS)}, not {task}')


def check_free(config: Path, force: bool) -> None:
    """Checks that nothing is there that a config and its folder would replace."""
    there = [path for path in (config, config.with_suffix('')) if path.exists()]
    if there and not force:
        raise InputError(f'{there[0]} is there; --force replaces it, --out FILE.py writes another')
    if config.is_dir() or config.with_suffix('').is_file():
        raise InputError(f'{config} must be a file and {config.with_suffix("")} a folder')


def check_apart(folder: Path, source: Path) -> None:
    """Checks that nothing is written into the data."""
    source = source if source.is_dir() else source.parent
    if folder == source or folder in source.parents:
        raise InputError(f'{folder} is where the data are; --out FILE.py takes another name')


def write_draft(draft: Draft, text: str) -> None:
    """Writes the files of a draft, the config last, after all of them have been made elsewhere."""
    try:
        draft.config.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f'.{draft.folder.name}.', dir=draft.config.parent))
    except OSError as error:
        raise InputError(f'cannot write {draft.config}: {error.strerror}') from error
    try:
        made = place / draft.folder.name
        for name, content in draft.files.items():
            path = made / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                path.write_text(content, encoding='utf-8')
            else:
                content(path)
        if draft.folder.exists():  # with --force; other files in it stay
            shutil.copytree(made, draft.folder, dirs_exist_ok=True)
        else:
            made.rename(draft.folder)
        write_text(draft.config, text)
    except OSError as error:
        raise InputError(f'cannot write {draft.config}: {error.strerror or error}') from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def summary(data: OwnData) -> str:
    """Returns how many classes and images there are."""
    count, train, val = len(data.classes), len(data.part('train')), len(data.part('val'))
    kinds = '1 class' if count == 1 else f'{count} classes'
    if data.skeleton:
        kinds = f'{len(data.skeleton.names)} keypoints'
    images = '1 image' if train == 1 else f'{train} images'
    return f'{kinds}, {images} to train on, {val} to validate on'


def report(draft: Draft, say: Callable[[str], object]) -> None:
    """Says what was found and written, and how to go on."""
    data, plan = draft.data, draft.schedule
    assert plan is not None
    say(f'{data.root}: {data.format}; {summary(data)}')
    counts = zip(data.classes, data.counts('train'), data.counts('val'))
    shown = [f'{name} {train} + {val}' for name, train, val in counts][:10]
    more = len(data.classes) - len(shown)
    if any(data.counts('train')):
        say(f'to train on + to validate on: {", ".join(shown)}{f", {more} more" if more else ""}')
    for note in data.notes:
        say(note)
    say(f'{plan.epochs} epochs of {plan.steps} steps, batches of {plan.batch_size}')
    say(f'written: {draft.config}, and in {draft.folder.name}/ {", ".join(names(draft))}')
    say(f'to train: scopevit train {shlex.quote(str(draft.config))}')


def names(draft: Draft) -> list[str]:
    """Returns the names of a draft's files; those of a folder as the folder's."""
    return list(dict.fromkeys(n.split('/')[0] + '/' * ('/' in n) for n in draft.files))
