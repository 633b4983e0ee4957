"""The option `--cfg-options` of the tools, which mmengine reads; `scopevit.cli` does without it."""

import argparse

from mmengine.config import DictAction

from scopevit.errors import InputError


class ConfigOptions(DictAction):
    """Reads KEY=VALUE pairs; those that do not parse are an `InputError`."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: list[str],
        option_string: str | None = None,
    ) -> None:
        for pair in values:
            key, equals, value = pair.partition('=')
            if not equals or not all(key.split('.')):
                raise InputError(f'--cfg-options takes KEY=VALUE pairs, not {pair!r}')
            if value.count('(') != value.count(')') or value.count('[') != value.count(']'):
                raise InputError(f'--cfg-options: brackets do not match in {pair!r}')
        try:
            super().__call__(parser, namespace, values, option_string)
        except RecursionError as error:  # mmengine takes dict(...) apart without end
            raise InputError(
                f'--cfg-options takes numbers, names, lists and tuples, not {" ".join(values)!r}; '
                'the keys of a dict are set one by one, as in a.b=1'
            ) from error
