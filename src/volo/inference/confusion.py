"""Which classes are taken for which, and which belong together. Needs the extra ``volo[train]``."""

import math

import numpy as np
from scipy.cluster.hierarchy import to_tree, ward
from scipy.spatial.distance import pdist


def confused_pairs(labels: np.ndarray, predicted: np.ndarray, most: int) -> list[tuple[int, int, int]]:
    """The (true class, predicted class, images) that are confused most often, at most ``most`` of them.

    Args:
        labels: (N,) true classes.
        predicted: (N,) predicted classes.
        most: how many.
    """
    wrong = labels != predicted
    pairs, counts = np.unique(np.stack([labels[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True)
    return [(int(pairs[i, 0]), int(pairs[i, 1]), int(counts[i])) for i in np.argsort(-counts, kind="stable")[:most]]


def group_classes(confusion: np.ndarray) -> list[np.ndarray]:
    """Part the classes into about √K groups of classes that are taken for the same ones, 40 or so at most.

    Ward's clustering of the classes' profiles: the shares that are given each name, and that each gives its name.
    Its tree falls into the largest branches of at most 1.5 √K classes, and small neighbours are put together.

    Args:
        confusion: (K, K) counts, rows are the true classes.

    Returns:
        Class indices of every group; groups and the classes in them in the order of the tree, so that neighbours
        are alike.
    """
    classes = len(confusion)
    most = round(1.5 * max(math.sqrt(classes), classes / 40))
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    # Distances of the square roots are Hellinger's: rare confusions count beside frequent ones.
    profiles = np.sqrt(shares + shares.T)
    np.fill_diagonal(profiles, 1)  # a class belongs with itself, whether it is recognised or not
    nodes = [to_tree(ward(pdist(profiles)))]
    groups: list[list[int]] = [[]]
    while nodes:
        node = nodes.pop()
        if node.count > most:
            nodes += [node.right, node.left]
        elif len(groups[-1]) + node.count <= most:
            groups[-1] += node.pre_order()
        else:
            groups.append(node.pre_order())
    return [np.array(group) for group in groups]
