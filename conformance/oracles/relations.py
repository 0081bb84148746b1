"""May-attend relations and positions in closed form, on whole numbers and on index tensors alike.

Each is `relation(query, key, n, block)` with positions in the layout's stream, n the model length and
`block` the block size; a size that does not divide n leaves a short last block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def block_diffusion_training(query: Any, key: Any, n: int, block: int) -> Any:
    """[noisy x_t | clean x_0], 2n positions (Block Diffusion, arXiv 2503.09573, section 3.1 and appendix B.6).

    A noisy token sees its own noisy block and the clean blocks before it; a clean token sees the clean
    blocks up to its own. The clean copy of a noisy token's own block stays invisible: seeing it is a leak.
    """
    query_block, key_block = (query % n) // block, (key % n) // block
    query_noisy, key_noisy = query < n, key < n
    block_diagonal = query_noisy & key_noisy & (query_block == key_block)
    offset_block_causal = query_noisy & (key >= n) & (query_block > key_block)
    block_causal = (query >= n) & (key >= n) & (query_block >= key_block)
    return block_diagonal | offset_block_causal | block_causal


def block_causal(query: Any, key: Any, n: int, block: int) -> Any:
    """One stream of at most n tokens: every block sees itself and the blocks before it."""
    return query // block >= key // block


def causal(query: Any, key: Any, n: int, block: int) -> Any:
    """One stream in which every token sees itself and those before it."""
    return query >= key


def everyone(query: Any, key: Any, n: int, block: int) -> Any:
    """One stream without a mask."""
    return (query >= key) | (query < key)


def restarting(index: Any, n: int) -> Any:
    """Positions of two halves of n tokens each: the same token has the same position in both."""
    return index % n


def right_padded(query: Any, key: Any, n: int, block: int) -> Any:
    """One stream whose last n // 8 of n tokens are padding, which nobody sees; in their own rows they see the rest."""
    return (key < n - n // 8) & (query >= 0)


def left_padded(query: Any, key: Any, n: int, block: int) -> Any:
    """The same with padding in front, n // 8 of n tokens."""
    return (key >= n // 8) & (query >= 0)


def clean_prefix(query: Any, key: Any, n: int, block: int) -> Any:
    """One canvas whose first n // 3 tokens are clean: clean ones see clean ones, noisy ones see all."""
    return (query >= n // 3) | (key < n // 3)


def blocks_of(size: int) -> Callable[[Any, Any, int, int], Any]:
    """One stream in blocks of a size that no config holds: every block sees itself and the blocks before it."""

    def relation(query: Any, key: Any, n: int, block: int) -> Any:
        return block_causal(query, key, n, size)

    return relation
