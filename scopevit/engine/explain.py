"""Which errors of the libraries mean that the user's input is wrong, and what to say then."""

import re
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

import scopevit
from scopevit.engine.libraries import missing_module
from scopevit.errors import InputError, error_text

WRONG_ARGUMENTS = re.compile(r'\.__init__\(\) (got an unexpected keyword|missing \d+ required)')
MISSING_KEY = re.compile(r"^'ConfigDict' object has no attribute '(\w+)'")
REGISTRY = 'mmengine.registry.build_functions'
LABEL_FILE_MODULE = 'mmpretrain.datasets.custom'
NO_SAMPLE = 'Cannot find valid image after'  # mmengine's BaseDataset
OUT_OF_MEMORY = (
    'lower train_dataloader.batch_size and make up for it by --accumulate, add --amp, set '
    'model.backbone.with_cp=True, or train at a lower resolution'
)
BUILDS = 'build_from_cfg'  # of the registry
# Code that is not the user's.
FOLDERS = sysconfig.get_path('stdlib'), str(Path(scopevit.__file__).parent)
INSTALLED = 'site-packages', 'dist-packages'
OTHER_ENDED = 'another process of this run has ended, which may have said why'
RUNTIME_ERRORS = {
    'stack expects each tensor to be equal size': (
        'the images of a batch differ in size: let the pipeline make them equal, or '
        "pad them with collate_fn=dict(type='pseudo_collate') in the dataloader"
    ),
    'Connection reset by peer': OTHER_ENDED,
    'Connection closed by peer': OTHER_ENDED,
    'Found 0 files in subfolders of': (
        'a data set finds no images: those of a class are in a folder of its own, named after the '
        'class, or ann_file lists images and the numbers of their classes'
    ),
}


@contextmanager
def input_errors(source: str) -> Iterator[None]:
    """Turns the errors that `explain` knows into `InputError`; the others pass as they are.

    `source` is the config, for messages.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise missing_module(error) from error
    except (ArithmeticError, AssertionError, AttributeError, LookupError, OSError, TypeError,
            ValueError) as error:  # fmt: skip
        message = explain(error, source)
        if message is None:
            raise
        raise InputError(message) from error
    except torch.OutOfMemoryError as error:
        raise InputError(f'{source}: out of memory of the GPU: {OUT_OF_MEMORY}') from error
    except RuntimeError as error:  # of torch, also from a process that loads data
        for part, said in RUNTIME_ERRORS.items():
            if part in str(error):
                raise InputError(f'{source}: {said}') from error
        message = explain(error, source)
        if message is None:
            raise
        raise InputError(message) from error
    except Exception as error:
        if NO_SAMPLE not in str(error):
            raise
        raise InputError(
            f'{source}: the pipeline of a data set drops all samples that it is given, as far as '
            'they were tried: do its filters fit the annotations?'
        ) from error


def explain(error: Exception, source: str) -> str | None:
    """Returns a line for an error that bad input causes, None for any other."""
    message = str(error.args[0] if error.args else error)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    raised_in = frames[-1].f_globals.get('__name__', '')
    if isinstance(error, InputError):
        # A process that loads data sends the whole traceback as the message.
        return message.rpartition(f'{InputError.__module__}.{InputError.__name__}: ')[2]
    if isinstance(error, OSError):
        return str(error) if error.errno is not None else None
    owner = frames[-1].f_locals.get('self')
    if isinstance(error, ValueError) and raised_in == LABEL_FILE_MODULE:
        return (
            f'{getattr(owner, "ann_file", source)}: each line must have the name of an image and '
            f'the number of its class ({message}); with_label=False takes names alone'
        )
    if isinstance(error, KeyError) and '.evaluation.' in raised_in and message.startswith('gt_'):
        return (
            f'{source}: the samples have no {message}, which {type(owner).__name__} compares with: '
            'images without labels can be predicted, but not tested'
        )
    if isinstance(error, AttributeError) and (key := MISSING_KEY.search(message)):
        return f'{source}: a part of the config has no {key[1]}, which is needed'
    if isinstance(error, (KeyError, TypeError)) and raised_in == REGISTRY:
        # "X is not in the Y registry. Please check ..."
        return f'{source}: {message.split(". ")[0]}'
    builds = any(frame.f_code.co_name in (BUILDS, 'build_dataloader') for frame in frames)
    place = place_of(error)
    if builds and WRONG_ARGUMENTS.search(message):
        return f'{source}: {message}{place}'
    is_argument = isinstance(error, (TypeError, ValueError))
    built = [frame.f_locals.get('obj_cls') for frame in frames
             if frame.f_code.co_name == BUILDS]  # fmt: skip
    if built:
        kind = next(filter(None, reversed(built)), None)
        name = '' if kind is None else f'{getattr(kind, "__name__", kind)}: '
        return f'{source}: {name}{message if is_argument else error_text(error)}{place}'
    # The backbone checks its own arguments and images.
    is_ours = is_argument and raised_in.startswith('scopevit.models')
    return f'{source}: {message}' if is_ours else None


def place_of(error: Exception) -> str:
    """Returns where in the user's own code something that is built has an error, to be added.

    Nothing where none of that code was running, or where what is built refuses what it is given.
    """
    frames = traceback.extract_tb(error.__traceback__)
    built = max((i for i, frame in enumerate(frames) if frame.name == BUILDS), default=len(frames))
    own = [i for i, frame in enumerate(frames) if i > built and is_own(frame.filename)]
    if not own:
        return ''
    frame = frames[own[-1]]
    refuses = (frame.line or '').startswith(('raise ', 'assert '))
    if refuses and own[-1] == built + 1 == len(frames) - 1:
        return ''
    place = f'{frame.filename}:{frame.lineno}, in {frame.name}'
    return f' ({place}; SCOPEVIT_DEBUG=1 shows the traceback)'


def is_own(path: str) -> bool:
    """Whether a file of code is the user's, neither installed nor ours."""
    if path.startswith('<') or any(name in Path(path).parts for name in INSTALLED):
        return False
    return not any(Path(path).is_relative_to(folder) for folder in FOLDERS)
