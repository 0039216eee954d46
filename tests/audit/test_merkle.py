"""Roots and proofs against RFC 6962 written down a second time, straight from its definitions over lists of leaves."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivavoce.audit import merkle

# ---- The RFC's own recursions (sections 2.1, 2.1.1, 2.1.2), with no thought for speed. ----


def split(count: int) -> int:
    k = 1
    while 2 * k < count:
        k *= 2
    return k


def mth(leaves: list[bytes]) -> bytes:
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = split(len(leaves))
    return hashlib.sha256(b"\x01" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


# ---- Ours ----


class Tree:
    """The nodes that a log of these leaves keeps."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.nodes: dict[tuple[int, int], bytes] = {}
        for index, data in enumerate(leaves):
            hash_ = self.nodes[0, index] = merkle.leaf_hash(data)
            for level, position, made in list(merkle.completed(index, hash_, self.node)):
                self.nodes[level, position] = made

    def node(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]


def leaves_of(count: int) -> list[bytes]:
    return [f"leaf {number}".encode() for number in range(count)]


LEAVES = leaves_of(70)
TREE = Tree(LEAVES)


def mutated(data: st.DataObject, hashes: list[bytes]) -> list[bytes]:
    """Change the proof in one way: a bit, a hash too many, too few, or two exchanged."""
    ways = ["more"] + (["bit", "less"] if hashes else [])
    if any(left != right for left, right in pairwise(hashes)):
        ways.append("exchange")
    at = data.draw(st.integers(0, max(len(hashes) - 1, 0)))
    match data.draw(st.sampled_from(ways)):
        case "more":
            return [*hashes[:at], data.draw(st.binary(min_size=32, max_size=32)), *hashes[at:]]
        case "less":
            return hashes[:at] + hashes[at + 1 :]
        case "exchange":
            at = next(n for n in range(len(hashes) - 1) if hashes[n] != hashes[n + 1])
            return [*hashes[:at], hashes[at + 1], hashes[at], *hashes[at + 2 :]]
    bit = data.draw(st.integers(0, 255))
    changed = bytearray(hashes[at])
    changed[bit // 8] ^= 1 << bit % 8
    return [*hashes[:at], bytes(changed), *hashes[at + 1 :]]


def test_published_roots() -> None:
    """The eight leaves and roots that Certificate Transparency implementations are tested with."""
    leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ]
    tree = Tree([bytes.fromhex(leaf) for leaf in leaves])
    assert [merkle.root(size, tree.node).hex() for size in range(1, 9)] == roots


def test_every_root_and_proof_is_the_rfcs() -> None:
    frontier = merkle.Frontier()
    for size in range(len(LEAVES) + 1):
        assert merkle.root(size, TREE.node) == frontier.root() == mth(LEAVES[:size])
        if size < len(LEAVES):
            frontier.push(merkle.leaf_hash(LEAVES[size]))
    for size in range(1, 40):
        for index in range(size):
            assert merkle.inclusion(index, size, TREE.node) == path(index, LEAVES[:size])
        for old in range(1, size + 1):
            assert merkle.consistency(old, size, TREE.node) == subproof(old, LEAVES[:size], True)


@given(st.data(), st.integers(1, len(LEAVES)))
def test_inclusion_verifies_and_nothing_else_does(data: st.DataObject, size: int) -> None:
    index = data.draw(st.integers(0, size - 1))
    leaf, root = merkle.leaf_hash(LEAVES[index]), mth(LEAVES[:size])
    proof = merkle.inclusion(index, size, TREE.node)
    assert merkle.verify_inclusion(leaf, index, size, proof, root)
    assert not merkle.verify_inclusion(leaf, index, size, mutated(data, proof), root)
    assert not merkle.verify_inclusion(merkle.leaf_hash(b"another"), index, size, proof, root)
    assert not merkle.verify_inclusion(leaf, index, size, proof, mth(LEAVES[: size - 1]))
    elsewhere = data.draw(st.integers(-2, size + 2).filter(lambda other: other != index))
    assert not merkle.verify_inclusion(leaf, elsewhere, size, proof, root)


@given(st.data(), st.integers(0, len(LEAVES)))
def test_consistency_verifies_and_nothing_else_does(data: st.DataObject, new: int) -> None:
    old = data.draw(st.integers(0, new))
    before, after = mth(LEAVES[:old]), mth(LEAVES[:new])
    proof = merkle.consistency(old, new, TREE.node)
    assert merkle.verify_consistency(old, new, before, after, proof)
    assert not merkle.verify_consistency(old, new, before, after, mutated(data, proof))
    assert not merkle.verify_consistency(old, new, hashlib.sha256(before).digest(), after, proof)
    if old:
        # Every tree begins with nothing, so only a tree that is not empty says something about the later one.
        assert not merkle.verify_consistency(old, new, before, hashlib.sha256(after).digest(), proof)
        forged = [*LEAVES[: old - 1], b"rewritten", *LEAVES[old:new]]
        assert not merkle.verify_consistency(old, new, before, mth(forged), subproof(old, forged, True))
    other = data.draw(st.integers(-1, new + 1).filter(lambda size: size not in (0, old)))
    assert not merkle.verify_consistency(other, new, before, after, proof)


def test_a_leaf_cannot_pass_for_a_node() -> None:
    """The second-preimage attack that RFC 6962's prefixes stop: two hashes as one leaf."""
    left, right = merkle.leaf_hash(b"a"), merkle.leaf_hash(b"b")
    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 3), (3, 3), (4, 3)])
def test_no_proof_without_a_leaf(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        merkle.inclusion(index, size, TREE.node)


@pytest.mark.parametrize("count", [1, 7, 1000, 2**20, 2**20 + 1])
def test_proofs_take_logarithmic_work(count: int) -> None:
    """In a tree of a million leaves, a proof reads a few dozen nodes and no more."""
    asked: list[tuple[int, int]] = []

    def node(level: int, index: int) -> bytes:
        asked.append((level, index))
        assert (index + 1) << level <= count, "only complete subtrees are kept"
        return bytes(32)

    for index in {0, count // 3, count - 1}:
        asked.clear()
        assert len(merkle.inclusion(index, count, node)) <= 21
        assert len(merkle.consistency(index + 1, count, node)) <= 22
        assert len(asked) <= 4 * 21
