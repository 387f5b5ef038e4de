"""The Merkle tree of RFC 6962 section 2: hashes, compact range, proofs. Pure.

A tree of n leaves is kept as a compact range: the roots of its largest perfect subtrees, at most 64 hashes. Roots of
256, 65536, … leaves are also handed out as tiles, so that a tree of any size is restored from a few hundred hashes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

HASH_BYTES = 32
TILE_BITS = 8
"""A tile of level L covers 2^(8 L) leaves, aligned."""

EMPTY_ROOT = hashlib.sha256(b"").digest()

Subtree = Callable[[int, int], bytes]
"""Root over the leaves [first, end) of a tree."""


def leaf_hash(data: bytes) -> bytes:
    """Hash of one leaf. Source: RFC 6962 section 2.1."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of two subtrees. Source: RFC 6962 section 2.1."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Range:
    """A compact range over the leaves [0, size)."""

    __slots__ = ("nodes", "size")

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self.size = 0
        self.nodes: list[bytes] = []
        """Roots of the perfect subtrees, largest first."""
        for leaf in leaves:
            self.append(leaf)

    def append(self, leaf: bytes) -> None:
        """Add one leaf hash."""
        rest = self.size
        while rest & 1:
            leaf = node_hash(self.nodes.pop(), leaf)
            rest >>= 1
        self.nodes.append(leaf)
        self.size += 1

    def copy(self) -> Range:
        """Return an independent copy."""
        twin = Range()
        twin.size, twin.nodes = self.size, list(self.nodes)
        return twin


class Tile(NamedTuple):
    """Root of a full, aligned block of 256^level leaves."""

    level: int
    number: int
    root: bytes


class Tree:
    """A growing tree: one open compact range for each tile level, lowest first."""

    __slots__ = ("_levels", "size")

    def __init__(self) -> None:
        self.size = 0
        self._levels = [Range()]

    @staticmethod
    def spans(size: int) -> list[tuple[int, int, int]]:
        """What `restore` needs: (level, first, end) of the hashes of each level; level 0 are the leaves."""
        found = []
        level = 0
        while True:
            end = size >> (TILE_BITS * level)
            first = (end >> TILE_BITS) << TILE_BITS
            found.append((level, first, end))
            if end >> TILE_BITS == 0:
                return found
            level += 1

    @classmethod
    def restore(cls, size: int, levels: Sequence[Iterable[bytes]]) -> Tree:
        """Rebuild the tree of `size` leaves from the hashes that `spans` names."""
        tree = cls()
        tree.size = size
        tree._levels = [Range(hashes) for hashes in levels]
        return tree

    def append(self, leaf: bytes) -> list[Tile]:
        """Add one leaf hash; return the tiles that it completes."""
        self.size += 1
        done: list[Tile] = []
        level = 0
        while True:
            if level == len(self._levels):
                self._levels.append(Range())
            open_range = self._levels[level]
            open_range.append(leaf)
            if open_range.size < 1 << TILE_BITS:
                return done
            leaf = open_range.nodes[0]
            self._levels[level] = Range()
            level += 1
            done.append(Tile(level, (self.size >> (TILE_BITS * level)) - 1, leaf))

    def root(self) -> bytes:
        """Root hash over all leaves."""
        # Read from the top level down, the open ranges are the compact range of the whole tree.
        nodes = [node for level in reversed(self._levels) for node in level.nodes]
        if not nodes:
            return EMPTY_ROOT
        root = nodes.pop()
        while nodes:
            root = node_hash(nodes.pop(), root)
        return root

    def copy(self) -> Tree:
        """Return an independent copy."""
        twin = Tree()
        twin.size, twin._levels = self.size, [level.copy() for level in self._levels]
        return twin


def _split(size: int) -> int:
    """Largest power of two below `size`."""
    return 1 << ((size - 1).bit_length() - 1)


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Root over leaf hashes, by the recursive definition. Source: RFC 6962 section 2.1."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    k = _split(len(leaves))
    return node_hash(root_of(leaves[:k]), root_of(leaves[k:]))


def inclusion_proof(subtree: Subtree, index: int, size: int) -> list[bytes]:
    """Audit path of leaf `index` in the tree of `size` leaves. Source: RFC 6962 section 2.1.1.

    Raises:
        ValueError: there is no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError("no such leaf")
    path: list[bytes] = []
    first = 0
    while size > 1:
        k = _split(size)
        if index < k:
            path.append(subtree(first + k, first + size))
            size = k
        else:
            path.append(subtree(first, first + k))
            first, index, size = first + k, index - k, size - k
    return path[::-1]


def consistency_proof(subtree: Subtree, old: int, new: int) -> list[bytes]:
    """Proof that the tree of `old` leaves is a prefix of the tree of `new` leaves. Source: RFC 6962 section 2.1.2.

    Raises:
        ValueError: not 0 <= old <= new.
    """
    if not 0 <= old <= new:
        raise ValueError("sizes out of order")
    if old in (0, new):
        return []
    path: list[bytes] = []
    first, size, whole = 0, new, True
    while old != size:
        k = _split(size)
        if old <= k:
            path.append(subtree(first + k, first + size))
            size = k
        else:
            path.append(subtree(first, first + k))
            first, old, size, whole = first + k, old - k, size - k, False
    if not whole:
        path.append(subtree(first, first + size))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows `leaf` at `index` of the tree (size, root). Source: RFC 9162 section 2.1.3.2."""
    if not 0 <= index < size:
        return False
    fn, sn, current = index, size - 1, leaf
    for node in proof:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            current = node_hash(node, current)
            fn, sn = _skip_right_edge(fn, sn)
        else:
            current = node_hash(current, node)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and current == root


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Whether `proof` shows that (new, new_root) extends (old, old_root). Source: RFC 9162 section 2.1.4.2."""
    if not 0 <= old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        return False
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    before = after = path[0]
    for node in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            before, after = node_hash(node, before), node_hash(node, after)
            fn, sn = _skip_right_edge(fn, sn)
        else:
            after = node_hash(after, node)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and before == old_root and after == new_root


def _skip_right_edge(fn: int, sn: int) -> tuple[int, int]:
    # A node without a sibling on the right edge moves up unhashed.
    while fn and not fn & 1:
        fn, sn = fn >> 1, sn >> 1
    return fn, sn
