"""Resolution to exactly one output: its bound holds, and nobody else is named."""

import hashlib

import numpy as np
import pytest

from vivavoce.watermark import Code, Reading
from vivavoce.watermark.code import CODE_BITS, IDENTITY_BITS, bound

SECRET = bytes(range(32))
TRUE = 0x1234_5678_9ABC


@pytest.fixture(scope="module")
def code() -> Code:
    return Code(SECRET)


@pytest.fixture(scope="module")
def registered() -> np.ndarray:
    """100,000 identities, without `TRUE`."""
    return np.random.default_rng(7).integers(0, 2**IDENTITY_BITS, 100_000, dtype=np.uint64)


def noisy(code: Code, identity: int, amplitude: float, seed: int = 0) -> Reading:
    """What a bad channel leaves of an identity: `amplitude` standard deviations of noise for each bit."""
    bits = 2.0 * code.bits(identity) - 1
    return Reading((amplitude * bits + np.random.default_rng(seed).standard_normal(CODE_BITS)).astype(np.float32))


def test_codewords_stay_what_they_are(code: Code) -> None:
    """Sounds marked today must be resolved in years: a changed table would lose them all."""
    words = np.packbits(code.bits(np.array([0, 1, TRUE, 2**IDENTITY_BITS - 1], dtype=np.uint64)), axis=-1)
    assert hashlib.sha256(words.tobytes()).hexdigest() == GOLDEN


def test_codewords_known_tell_nothing_of_others(code: Code) -> None:
    """A code that is linear over GF(2) could be solved from the outputs of one tenant, to forge another's mark."""
    a, b, c = 0x1111, 0x2222, 0x4444
    together = code.bits(a) ^ code.bits(b) ^ code.bits(c)
    assert 200 < (together != code.bits(a ^ b ^ c)).sum() < 312
    one_byte = [code.bits(0x0101 * place) ^ code.bits(0x0100 * place) for place in range(1, 20)]
    assert len({word.tobytes() for word in one_byte}) == len(one_byte)


def test_codewords_are_far_apart(code: Code) -> None:
    words = code.bits(np.arange(500, dtype=np.uint64)).astype(int)
    distance = np.array([(word != words).sum(axis=1) for word in words])
    np.fill_diagonal(distance, CODE_BITS)
    assert distance.min() > CODE_BITS // 3


def test_the_bound_on_false_attribution_holds(code: Code, registered: np.ndarray) -> None:
    """Wrong identities seem right no more often than they are said to, for readings of any shape."""
    rng = np.random.default_rng(1)
    shapes = [
        np.ones(CODE_BITS),
        rng.standard_normal(CODE_BITS),
        rng.standard_normal(CODE_BITS) ** 3,
        np.eye(CODE_BITS)[0] + 0.01,
        noisy(code, TRUE, 0.5).values,
    ]
    for values in shapes:
        z = code.agreement(Reading(values.astype(np.float32)), registered)
        for level in (1.5, 2.0, 3.0, 4.0):
            assert (z >= level).mean() <= bound(level) + 3 * np.sqrt(bound(level) / len(registered))


@pytest.mark.parametrize("amplitude", [0.5, 1.0, 5.0])
def test_the_one_output_is_named(code: Code, registered: np.ndarray, amplitude: float) -> None:
    batches = np.array_split(np.append(registered, np.uint64(TRUE)), 7)
    found = code.resolve(noisy(code, TRUE, amplitude), batches)
    assert found.identity == TRUE == found.candidates[0].identity
    assert found.false_attribution <= 1e-6
    assert found.searched == len(registered) + 1


def test_nobody_is_named_where_the_right_one_is_not_registered(code: Code, registered: np.ndarray) -> None:
    for seed in range(20):
        found = code.resolve(noisy(code, TRUE, 1.0, seed), [registered])
        assert found.identity is None
        assert found.false_attribution > 1e-3


def test_a_weak_reading_gives_candidates_and_no_guess(code: Code, registered: np.ndarray) -> None:
    found = code.resolve(noisy(code, TRUE, 0.22, 1), [registered, np.array([TRUE], dtype=np.uint64)])
    assert found.identity is None
    assert 1e-6 < found.false_attribution <= 1
    assert TRUE in [one.identity for one in found.candidates]


def test_another_operators_reading_names_nobody(code: Code, registered: np.ndarray) -> None:
    theirs = Code(b"another secret of 32 bytes......")
    known = np.append(registered, np.uint64(TRUE))
    assert code.resolve(noisy(theirs, TRUE, 5.0), [known]).identity is None
    assert code.doubt(noisy(theirs, TRUE, 5.0), TRUE) > 1e-3


def test_two_that_agree_equally_are_not_told_apart(code: Code) -> None:
    """Should one identity ever be registered twice, the answer is no output instead of a coin's."""
    twice = np.array([TRUE, TRUE], dtype=np.uint64)
    found = code.resolve(noisy(code, TRUE, 5.0), [twice])
    assert found.identity is None
    assert len(found.candidates) == 2


def test_nothing_heard_or_nobody_registered(code: Code, registered: np.ndarray) -> None:
    empty = np.zeros(0, dtype=np.uint64)
    silent = code.resolve(Reading(np.zeros(CODE_BITS, dtype=np.float32)), [registered])
    assert (silent.identity, silent.false_attribution) == (None, 1.0)
    for batches in ([], [empty]):
        found = code.resolve(noisy(code, TRUE, 1.0), batches)
        assert (found.identity, found.false_attribution, found.candidates, found.searched) == (None, 1.0, (), 0)


GOLDEN = "97c30902e084d1998b4187b0b851392646b57f38174e9f9241c8a91f74665d6f"
