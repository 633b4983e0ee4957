"""Tries the libraries' configs one by one, and writes what became of them."""

import time
from collections.abc import Sequence

import cv2
import torch

from scopevit.benchmark.pages import log, make_folder, page_with
from scopevit.engine.environment import find_versions
from scopevit.engine.libraries import LIBRARIES, find_library
from scopevit.errors import InputError
from scopevit.files import write_text
from scopevit.model_zoo.causes import LEFT_OUT, OTHER, WORKS, Outcome
from scopevit.model_zoo.files import ConfigFile, find_configs, one_of_each_family
from scopevit.model_zoo.processes import Ended, Limits, run_each
from scopevit.model_zoo.results import Results, Tried, key_of, make_tables
from scopevit.model_zoo.steps import import_inputs, try_config
from scopevit.report import markdown_table

BEGIN, END = '<!-- begin: tools/compat/zoo.py -->', '<!-- end: tools/compat/zoo.py -->'


def run_zoo(
    libraries: Sequence[str],
    families: Sequence[str],
    sample: bool,
    retry: bool,
    jobs: int,
    limits: Limits,
    out: str,
    page: str | None,
) -> str:
    """Tries configs that have no outcome yet, and returns the tables of all that have one.

    Args:
        libraries: Whose configs.
        families: Names of folders; all, where there are none.
        sample: Whether one config of each family is enough.
        retry: Whether to try again what did not work.
        jobs: How many at a time.
        limits: What each may take.
        out: Folder of `results.jsonl`, whose outcomes are kept, and `table.md`.
        page: Markdown file whose tables to replace too.

    Raises:
        InputError: If a library or family is not there, or the results are of other versions.
    """
    files = [file for library in libraries for file in find_configs(library)]
    chosen = choose(files, families, sample)
    folder = make_folder(out)
    if page is not None:
        page_with(page, BEGIN, END, '')  # before time is spent
    versions = import_libraries()
    results = Results(folder / 'results.jsonl', versions)
    try_all(chosen, results, retry, jobs, limits)
    tables = describe(files, results, versions)
    write_text(folder / 'table.md', tables)
    if page is not None:
        write_text(page, page_with(page, BEGIN, END, tables))
    return tables


def choose(files: Sequence[ConfigFile], families: Sequence[str], sample: bool) -> list[ConfigFile]:
    """Returns the configs of some families, one of each if that is enough."""
    names = sorted({file.family for file in files})
    for family in families:
        if family not in names:
            raise InputError(f'--families: no folder {family!r}; there are {", ".join(names)}')
    chosen = [file for file in files if not families or file.family in families]
    return one_of_each_family(chosen) if sample else chosen


def import_libraries() -> dict[str, str]:
    """Imports what the processes of the configs share, and returns the versions of all of it."""
    torch.set_num_threads(1)  # a process that has begun threads cannot be forked
    cv2.setNumThreads(0)
    versions = find_versions(*(find_library(name) for name in LIBRARIES))
    for name in LIBRARIES:
        import_inputs(name)
    return versions


def try_all(
    files: Sequence[ConfigFile], results: Results, retry: bool, jobs: int, limits: Limits
) -> None:
    """Tries configs, and adds what became of each as soon as it is known."""
    kept = {
        name: tried
        for name, tried in results.tried.items()
        if not retry or tried.outcome.kind in (WORKS, LEFT_OUT)
    }
    known = {tried.mark: (name, tried.outcome) for name, tried in kept.items() if tried.mark}
    waiting = [file for file in files if key_of(file) not in kept]
    log(f'{len(waiting)} configs to try, {len(files) - len(waiting)} are known')

    def try_one(file: ConfigFile) -> tuple[Outcome, str]:
        return try_config(file, known)

    for number, ended in enumerate(run_each(try_one, waiting, jobs, limits), 1):
        tried = read_end(ended)
        results.add(ended.task, tried)
        if tried.mark and not tried.outcome.same_as:
            known[tried.mark] = (key_of(ended.task), tried.outcome)
        outcome = tried.outcome
        said = ' '.join(filter(None, (outcome.kind, outcome.step, outcome.what, outcome.reason)))
        log(f'{number}/{len(waiting)} {key_of(ended.task)}: {said} ({tried.seconds:.1f} s)')


def read_end(ended: Ended[ConfigFile, tuple[Outcome, str]]) -> Tried:
    """Returns what became of a config, be it that its process did not come to an end."""
    outcome, mark = ended.result or (Outcome(OTHER, '', ended.why), '')
    return Tried(outcome, mark, ended.seconds)


def describe(files: Sequence[ConfigFile], results: Results, versions: dict[str, str]) -> str:
    """Returns the tables, and what they hold for."""
    tried = [results.tried[key_of(file)] for file in files if key_of(file) in results.tried]
    shared = sum(bool(each.outcome.same_as) for each in tried)
    said = (
        f'{len(tried)} of {len(files)} configs were tried, until {time.strftime("%Y-%m-%d")}; '
        f'{shared} of them have the model and inputs of another, whose outcome is theirs.'
    )
    table = markdown_table(['what', 'version'], list(versions.items()), align='ll')
    return '\n'.join([f'{said}\n', make_tables(files, results.tried), table])
