"""Exact and near duplicates of images, found by hashes of their pixels. Needs the extra ``volo[data]``."""

import hashlib
from collections.abc import Sequence

import numpy as np
from imagehash import phash
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

#: Bits of a perceptual hash.
HASH_BITS = 64

#: A picture whose hash has fewer set bits is too flat to compare; usual pictures have about half of the bits set.
_LEAST_BITS = 16

#: Byte value → number of its set bits.
_SET_BITS = np.array([number.bit_count() for number in range(256)], dtype=np.int64)


def pixel_digest(image: Image.Image) -> bytes:
    """Return 16 bytes that two images share only if their mode, size and pixels are equal."""
    digest = hashlib.blake2b(f"{image.mode} {image.size}".encode(), digest_size=16)
    digest.update(image.tobytes())
    return digest.digest()


def perceptual_hash(image: Image.Image) -> int | None:
    """Return 64 bits that hardly change when a picture is scaled, recompressed or recolored; None for a flat picture.

    The bits are the signs of the lowest 8×8 coefficients of a cosine transform, computed by the package imagehash.
    """
    bits = phash(image).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big") if bits.sum() >= _LEAST_BITS else None


def same_digests(digests: Sequence[bytes]) -> list[list[int]]:
    """Return the positions of equal digests, in groups of two or more."""
    groups: dict[bytes, list[int]] = {}
    for place, digest in enumerate(digests):
        groups.setdefault(digest, []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def near_hashes(hashes: Sequence[int | None], distance: int) -> list[list[int]]:
    """Return the positions of near hashes, in groups of two or more.

    Two hashes are near if they differ in at most ``distance`` bits. A group holds all hashes that a chain of near
    hashes connects. None is in no group.

    The result is exact, yet not all pairs are compared: the 64 bits are cut into d + 1 bands, and two hashes that
    differ in d bits agree in at least one band. So only hashes that share a band are compared, with numpy: for N
    evenly spread hashes (d + 1) · N² / 2 / 2^(64 / (d + 1)) comparisons, 0.9 million for N = 50,000 and d = 4. Memory
    grows with the number of near pairs.

    Raises:
        ValueError: ``distance`` is outside 0–16.
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
    """Return (pairs, 2) positions of values that differ in at most ``distance`` of 64 bits; a pair may occur twice.

    ``values`` are unique, uint64.
    """
    found = [np.empty((0, 2), dtype=np.int64)]
    for band in np.array_split(np.arange(HASH_BITS), distance + 1):
        keys = (values >> np.uint64(band[0])) & np.uint64((1 << len(band)) - 1)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        # Sorting puts equal keys side by side. So it is enough to compare neighbors, at every offset up to the
        # longest run of equal keys.
        for offset in range(1, len(values)):
            same = np.flatnonzero(keys[offset:] == keys[:-offset])
            if not len(same):
                break
            first, second = order[same], order[same + offset]
            different = (values[first] ^ values[second]).view(np.uint8).reshape(-1, 8)
            near = _SET_BITS[different].sum(axis=1) <= distance
            found.append(np.stack([first[near], second[near]], axis=1))
    return np.concatenate(found)
