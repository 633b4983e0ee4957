"""What an attention compares, for tools that look inside."""

from typing import NamedTuple

from torch import Tensor


class AttentionInputs(NamedTuple):
    """Queries, keys and values of G groups of tokens.

    Attributes:
        queries: (G, heads, S, D).
        keys: (G, heads, K, D).
        values: (G, heads, K, D).
        bias: Bias of the logits, (heads, S, K); None for 0.
        tokens: Which tokens of the map a group's queries and keys are, (G, S), counted row by row;
            None where queries and keys are two whole maps, row by row.
    """

    queries: Tensor
    keys: Tensor
    values: Tensor
    bias: Tensor | None = None
    tokens: Tensor | None = None
