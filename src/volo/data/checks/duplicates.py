"""Images that are the same, or nearly, found by hashes of their pixels. Needs the extra ``volo[data]``."""

import hashlib
from collections.abc import Sequence

import numpy as np
from imagehash import phash
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

HASH_BITS = 64

#: With fewer bits set, a picture is so flat that its hash says nothing of it; others have about half of them set.
_LEAST_BITS = 16

_SET_BITS = np.array([number.bit_count() for number in range(256)], dtype=np.int64)


def pixel_digest(image: Image.Image) -> bytes:
    """16 bytes that only equal pixels, in mode and size too, have in common."""
    digest = hashlib.blake2b(f"{image.mode} {image.size}".encode(), digest_size=16)
    digest.update(image.tobytes())
    return digest.digest()


def perceptual_hash(image: Image.Image) -> int | None:
    """64 bits that stay nearly the same when a picture is scaled, recompressed or recolored; None where it is flat.

    The signs of the lowest 8×8 coefficients of a cosine transform, by the package imagehash.
    """
    bits = phash(image).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big") if bits.sum() >= _LEAST_BITS else None


def same_digests(digests: Sequence[bytes]) -> list[list[int]]:
    """Places of equal digests, in groups of two or more."""
    groups: dict[bytes, list[int]] = {}
    for place, digest in enumerate(digests):
        groups.setdefault(digest, []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def near_hashes(hashes: Sequence[int | None], distance: int) -> list[list[int]]:
    """Places of hashes that differ in at most ``distance`` bits, directly or by steps over others, in groups.

    Exact, without comparing all pairs: hashes that differ in d bits agree wholly in one of d + 1 bands of bits, so
    only those that share a band are compared, in numpy: (d + 1) · N² / 2 / 2^(64 / (d + 1)) comparisons of N hashes
    that are evenly spread, 0.9 million for 50,000 and d = 4. Memory grows with the pairs that are found.

    Raises:
        ValueError: the distance is not inside 0–16.
    """
    if not 0 <= distance <= 16:
        raise ValueError(f"the distance of near duplicates must be 0–16 bits of {HASH_BITS}, not {distance}")
    places = [place for place, value in enumerate(hashes) if value is not None]
    values = np.array([hashes[place] for place in places], dtype=np.uint64)
    unique, which = np.unique(values, return_inverse=True)
    pairs = _near_pairs(unique, distance)
    graph = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(len(unique), len(unique)))
    groups: dict[int, list[int]] = {}
    for place, component in zip(places, connected_components(graph, directed=False)[1][which], strict=True):
        groups.setdefault(int(component), []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def _near_pairs(values: np.ndarray, distance: int) -> np.ndarray:
    """(pairs, 2) places of different 64-bit values that differ in at most ``distance`` bits; a pair may come twice."""
    found = [np.empty((0, 2), dtype=np.int64)]
    for band in np.array_split(np.arange(HASH_BITS), distance + 1):
        keys = (values >> np.uint64(band[0])) & np.uint64((1 << len(band)) - 1)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        # Equal keys stand together: neighbors at every offset up to the longest run are compared.
        for offset in range(1, len(values)):
            same = np.flatnonzero(keys[offset:] == keys[:-offset])
            if not len(same):
                break
            first, second = order[same], order[same + offset]
            different = (values[first] ^ values[second]).view(np.uint8).reshape(-1, 8)
            near = _SET_BITS[different].sum(axis=1) <= distance
            found.append(np.stack([first[near], second[near]], axis=1))
    return np.concatenate(found)
