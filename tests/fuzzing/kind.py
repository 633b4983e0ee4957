"""What all kinds of damaged inputs have in common."""

import json
import random
from pathlib import Path
from typing import Any

from fuzzing.mutations import encode, mutate_bytes, mutate_text, mutate_value, to_json


class Kind:
    """Inputs of a kind.

    Args:
        folder: For all that it writes.
        canary: A file that code in an input would make.

    Attributes:
        names: Texts of which a clear error has one: the file, or the key.
    """

    names: tuple[str, ...] = ('damaged',)

    def __init__(self, folder: Path, canary: Path) -> None:
        self.folder, self.canary = folder, canary

    def take(self, chance: random.Random) -> None:
        """Writes and takes an input.

        Raises:
            InputError: If it is refused.
        """
        raise NotImplementedError

    def write_json(self, path: Path, content: Any, chance: random.Random) -> None:
        """Writes JSON, four of five times with other values, else with other bytes."""
        if chance.random() < 0.8:
            path.write_bytes(to_json(mutate_value(content, chance), chance))
        else:
            path.write_bytes(mutate_bytes(json.dumps(content).encode(), chance))

    def write_text(self, path: Path, text: str, chance: random.Random) -> None:
        """Writes text, two of three times with other tokens, else with other bytes."""
        if chance.random() < 0.67:
            path.write_bytes(encode(mutate_text(text, chance, str(self.canary))))
        else:
            path.write_bytes(mutate_bytes(text.encode(), chance))
