"""Which classes are taken for which, and which belong together. Needs the extra ``volo[train]``."""

import math

import numpy as np
from scipy.cluster.hierarchy import average, to_tree
from scipy.spatial.distance import squareform


def confused_pairs(confusion: np.ndarray) -> list[tuple[int, int, int]]:
    """The (true class, predicted class, count) that are confused, most often first.

    Args:
        confusion: (K, K) counts, rows are the true classes.
    """
    wrong = confusion - np.diag(np.diag(confusion))
    pairs = np.argwhere(wrong)
    pairs = pairs[np.argsort(-wrong[tuple(pairs.T)], kind="stable")]
    return [(int(true), int(taken), int(wrong[true, taken])) for true, taken in pairs]


def group_classes(confusion: np.ndarray) -> list[np.ndarray]:
    """Part the classes into about √K groups of classes that are taken for the same ones, 40 or so at most.

    Clusters by average linkage, where two classes are the nearer, the larger the shares of each that are taken for
    the other. The tree falls into its largest branches of at most 1.5 √K classes; small neighbors are put together.

    Args:
        confusion: (K, K) counts, rows are the true classes.

    Returns:
        Class indices of every group; groups and the classes in them in the order of the tree, so that neighbors
        are alike.
    """
    classes = len(confusion)
    most = round(1.5 * max(math.sqrt(classes), classes / 40))
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    nodes = [to_tree(average(squareform(2 - shares - shares.T, checks=False)))]
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
