"""RFC 6962 trees and proofs."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_guard.audit.tree import (
    EMPTY_ROOT,
    Range,
    Tree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [leaf_hash(b"%d" % number) for number in range(300)]
ROOTS = [root_of(LEAVES[:size]) for size in range(301)]
BIG = [hashlib.sha256(b"%d" % number).digest() for number in range(70_000)]


def subtree(first: int, end: int) -> bytes:
    return root_of(LEAVES[first:end])


def flipped(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def test_hashes_of_known_trees() -> None:
    """RFC 6962 section 2.1: SHA-256 of nothing, of 0x00 for an empty leaf; 8-leaf root of the reference vectors."""
    vectors = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    leaves = [leaf_hash(bytes.fromhex(text)) for text in vectors]

    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert leaves[0].hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert root_of(leaves).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def test_the_growing_tree_has_the_root_of_the_recursive_definition_at_every_size() -> None:
    """RFC 6962 section 2.1; docs/audit.md, "How a change shows"."""
    tree = Tree()
    assert tree.root() == EMPTY_ROOT
    for size, leaf in enumerate(LEAVES, start=1):
        tree.append(leaf)
        assert (tree.size, tree.root()) == (size, ROOTS[size])


def test_every_inclusion_proof_verifies_and_no_mutated_one_does() -> None:
    """RFC 9162 section 2.1.3.2."""
    for size in (*range(1, 40), 255, 256, 257, 300):
        for index in range(0, size, 1 if size < 40 else 17):
            proof = inclusion_proof(subtree, index, size)
            leaf, root = LEAVES[index], ROOTS[size]
            assert verify_inclusion(leaf, index, size, proof, root)
            assert not verify_inclusion(flipped(leaf), index, size, proof, root)
            assert not verify_inclusion(leaf, index, size, [*proof, root], root)
            assert not verify_inclusion(leaf, size, size, proof, root)
            for at in range(len(proof)):
                bent = [*proof[:at], flipped(proof[at]), *proof[at + 1 :]]
                assert not verify_inclusion(leaf, index, size, bent, root)
                assert not verify_inclusion(leaf, index, size, proof[:at] + proof[at + 1 :], root)


def test_every_consistency_proof_verifies_and_no_mutated_one_does() -> None:
    """RFC 9162 section 2.1.4.2."""
    for new in (*range(1, 34), 255, 256, 257, 300):
        for old in range(1, new, 1 if new < 34 else 13):
            proof = consistency_proof(subtree, old, new)
            assert verify_consistency(old, new, proof, ROOTS[old], ROOTS[new])
            assert not verify_consistency(old, new, proof, flipped(ROOTS[old]), ROOTS[new])
            assert not verify_consistency(old, new, proof, ROOTS[old], flipped(ROOTS[new]))
            assert not verify_consistency(old, new, [*proof, ROOTS[1]], ROOTS[old], ROOTS[new])
            for at in range(len(proof)):
                bent = [*proof[:at], flipped(proof[at]), *proof[at + 1 :]]
                assert not verify_consistency(old, new, bent, ROOTS[old], ROOTS[new])


def test_consistency_at_the_edges() -> None:
    """RFC 6962 section 2.1.2: an empty tree and an equal one need no proof, and prove nothing else."""
    assert consistency_proof(subtree, 0, 5) == consistency_proof(subtree, 5, 5) == []
    assert verify_consistency(0, 5, [], EMPTY_ROOT, ROOTS[5])
    assert not verify_consistency(0, 5, [], ROOTS[1], ROOTS[5])
    assert verify_consistency(5, 5, [], ROOTS[5], ROOTS[5])
    assert not verify_consistency(5, 5, [], ROOTS[5], ROOTS[4])
    assert not verify_consistency(6, 5, [], ROOTS[6], ROOTS[5])
    assert not verify_consistency(3, 5, [], ROOTS[3], ROOTS[5])


def test_proofs_that_cannot_exist_are_refused() -> None:
    """RFC 6962 section 2.1."""
    with pytest.raises(ValueError, match="no such leaf"):
        inclusion_proof(subtree, 3, 3)
    with pytest.raises(ValueError, match="sizes out of order"):
        consistency_proof(subtree, 4, 3)


@given(st.integers(0, 3000), st.integers(0, 600))
def test_a_restored_tree_goes_on_like_the_one_it_was_taken_from(size: int, more: int) -> None:
    """docs/audit.md, "How a change shows": restored from tiles and the last leaves."""
    tree, tiles = Tree(), {}
    for leaf in BIG[:size]:
        tiles.update({(tile.level, tile.number): tile.root for tile in tree.append(leaf)})
    levels = [
        BIG[first:end] if level == 0 else [tiles[level, number] for number in range(first, end)]
        for level, first, end in Tree.spans(size)
    ]
    restored = Tree.restore(size, levels)
    assert restored.root() == tree.root()
    for leaf in BIG[size : size + more]:
        assert restored.append(leaf) == tree.append(leaf)
    assert restored.root() == tree.root()


def test_tiles_are_the_roots_of_full_blocks_on_two_levels() -> None:
    """docs/audit.md, "How a change shows": tile(level, idx) = root of each full 256^level leaves."""
    tree = Tree()
    tiles = [tile for leaf in BIG for tile in tree.append(leaf)]
    second = [tile for tile in tiles if tile.level == 2]

    assert len(tiles) == len(BIG) // 256 + 1
    assert [(tile.number, tile.root) for tile in second] == [(0, root_of(BIG[:65_536]))]
    assert tree.root() == root_of(BIG)


def test_a_copy_is_independent() -> None:
    """decisions.md D7: the tree moves on only after a commit."""
    tree = Tree()
    for leaf in LEAVES[:5]:
        tree.append(leaf)
    twin = tree.copy()
    twin.append(LEAVES[5])
    assert (tree.root(), twin.root()) == (ROOTS[5], ROOTS[6])
    assert Range(LEAVES[:4]).nodes == [ROOTS[4]]
