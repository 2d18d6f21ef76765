"""Which classes are taken for which, and which belong together. Needs the extra ``volo[train]``."""

import math

import numpy as np
from scipy.cluster.hierarchy import fcluster, leaves_list, ward


def confused_pairs(confusion: np.ndarray, most: int) -> list[tuple[int, int, int]]:
    """The (true class, predicted class, images) that are confused most often, at most ``most`` of them."""
    wrong = confusion * (1 - np.eye(len(confusion), dtype=confusion.dtype))
    places = np.argsort(-wrong, axis=None, kind="stable")[:most]
    rows, columns = np.unravel_index(places, wrong.shape)
    return [
        (int(row), int(column), int(wrong[row, column]))
        for row, column in zip(rows, columns, strict=True)
        if wrong[row, column]
    ]


def group_classes(confusion: np.ndarray) -> list[np.ndarray]:
    """Part the classes into about √K groups of those that are taken for the same classes.

    Ward's clustering of the classes' profiles: to which share each is given every name, and is the name given.

    Args:
        confusion: (K, K) counts, rows are the true classes.

    Returns:
        Class indices of every group; groups and the classes in them in the order of the tree, so that neighbours
        are alike.
    """
    counts = np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    shares = confusion / counts
    # Square roots bring rare confusions nearer to frequent ones: distances between them are Hellinger's.
    tree = ward(np.sqrt(shares + shares.T))
    order = leaves_list(tree)
    group = fcluster(tree, round(math.sqrt(len(confusion))), criterion="maxclust")[order]
    return np.split(order, np.flatnonzero(np.diff(group)) + 1)
