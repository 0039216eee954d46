"""The Merkle tree of RFC 6962 section 2 (proof verification as in RFC 9162 section 2.1), as pure functions.

A *node* is the hash of a complete subtree: node (level, index) covers the `2**level` leaves from `index * 2**level` on;
level 0 are the leaf hashes. Functions that need hashes take `node`, which looks one up. Every root and proof of a tree
of n leaves needs O(log n) of them. Hashes are SHA-256, 32 bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

HASH_BYTES = 32
MAX_PATH = 63
"""Most hashes that a proof may have."""
EMPTY_ROOT = hashlib.sha256().digest()
"""Root of the tree of no leaves."""

Node = Callable[[int, int], bytes]
"""Looks up the hash of the complete subtree (level, index)."""


def leaf_hash(data: bytes) -> bytes:
    """Hash a leaf's data; the first byte keeps leaves and inner nodes apart."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two neighbouring subtrees into their parent."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def completed(index: int, leaf: bytes, node: Node) -> Iterator[tuple[int, int, bytes]]:
    """Yield the inner nodes (level, index, hash) that leaf `index` completes, upwards; about one on average."""
    level, hash_ = 0, leaf
    while index & 1:
        hash_ = node_hash(node(level, index - 1), hash_)
        level, index = level + 1, index >> 1
        yield level, index, hash_


def root(size: int, node: Node) -> bytes:
    """Compute the root of the first `size` leaves."""
    return _range(0, size, node) if size else EMPTY_ROOT


def inclusion(index: int, size: int, node: Node) -> list[bytes]:
    """Prove that leaf `index` is in the tree of the first `size` leaves (RFC 6962 section 2.1.1).

    Raises:
        ValueError: There is no such leaf in a tree of that size.
    """
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    path, low, high = [], 0, size
    while high - low > 1:
        middle = low + _left_size(high - low)
        if index < middle:
            path.append(_range(middle, high, node))
            high = middle
        else:
            path.append(_range(low, middle, node))
            low = middle
    return path[::-1]


def consistency(old: int, new: int, node: Node) -> list[bytes]:
    """Prove that the tree of `old` leaves is a beginning of the tree of `new` leaves (RFC 6962 section 2.1.2).

    The empty tree begins every tree: its proof is empty.

    Raises:
        ValueError: Not `0 <= old <= new`.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {old} cannot be the beginning of a tree of {new}")
    if old in (0, new):
        return []
    path, low, high = [], 0, new
    while old != high:
        middle = low + _left_size(high - low)
        if old <= middle:
            path.append(_range(middle, high, node))
            high = middle
        else:
            path.append(_range(low, middle, node))
            low = middle
    if low:
        # The old tree is not itself a subtree of the new one on the left edge, so its last part is needed.
        path.append(_range(low, high, node))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root_hash: bytes) -> bool:
    """Check an inclusion proof for a leaf hash (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    position, last, hash_ = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if position & 1 or position == last:
            hash_ = node_hash(sibling, hash_)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            hash_ = node_hash(hash_, sibling)
        position, last = position >> 1, last >> 1
    return last == 0 and hash_ == root_hash


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Check a consistency proof between two roots (RFC 9162 section 2.1.4.2)."""
    if not 0 <= old <= new:
        return False
    if old in (0, new):
        expected = EMPTY_ROOT if old == 0 else new_root
        # Two empty trees must agree too.
        return not path and old_root == expected and (new > 0 or new_root == EMPTY_ROOT)
    parts = list(path)
    if not old & (old - 1):
        # The old tree is a complete subtree of the new one: its root starts the proof.
        parts.insert(0, old_root)
    if not parts:
        return False
    position, last = old - 1, new - 1
    while position & 1:
        position, last = position >> 1, last >> 1
    from_old = from_new = parts[0]
    for part in parts[1:]:
        if last == 0:
            return False
        if position & 1 or position == last:
            from_old, from_new = node_hash(part, from_old), node_hash(part, from_new)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            from_new = node_hash(from_new, part)
        position, last = position >> 1, last >> 1
    return last == 0 and from_old == old_root and from_new == new_root


class Frontier:
    """A tree that grows leaf by leaf and keeps only O(log n) hashes: enough for its root, not for proofs."""

    def __init__(self) -> None:
        self.size = 0
        self._edge: dict[tuple[int, int], bytes] = {}

    def push(self, leaf: bytes) -> list[bytes]:
        """Add a leaf hash; returns the hashes of the inner nodes that it completes, upwards."""
        index = self.size
        self._edge[0, index] = leaf
        made = list(completed(index, leaf, self._node))
        for level, position, hash_ in made:
            self._edge[level, position] = hash_
            # Its two halves are never asked for again.
            del self._edge[level - 1, 2 * position], self._edge[level - 1, 2 * position + 1]
        self.size += 1
        return [hash_ for _, _, hash_ in made]

    def root(self) -> bytes:
        """Root of the leaves so far."""
        return root(self.size, self._node)

    def _node(self, level: int, index: int) -> bytes:
        return self._edge[level, index]


def _left_size(size: int) -> int:
    """Give the largest power of two below `size` (k in RFC 6962)."""
    return 1 << (size - 1).bit_length() - 1


def _range(low: int, high: int, node: Node) -> bytes:
    """Hash the leaves low..high-1, a subtree of the RFC's recursion: complete, or on the right edge."""
    size = high - low
    if not size & (size - 1):
        level = size.bit_length() - 1
        return node(level, low >> level)
    middle = low + _left_size(size)
    return node_hash(_range(low, middle, node), _range(middle, high, node))
