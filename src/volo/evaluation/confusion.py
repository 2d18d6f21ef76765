"""Confused pairs and groups of classes, from a confusion matrix. Needs the extra ``volo[train]``."""

import math

import numpy as np
from scipy.cluster.hierarchy import average, to_tree
from scipy.spatial.distance import squareform


def confused_pairs(confusion: np.ndarray) -> list[tuple[int, int, int]]:
    """Return (true class, predicted class, count) of every confusion, the most frequent first.

    Args:
        confusion: (K, K) counts; rows are the true classes.
    """
    wrong = confusion - np.diag(np.diag(confusion))
    pairs = np.argwhere(wrong)
    pairs = pairs[np.argsort(-wrong[tuple(pairs.T)], kind="stable")]
    return [(int(true), int(predicted), int(wrong[true, predicted])) for true, predicted in pairs]


def group_classes(confusion: np.ndarray) -> list[np.ndarray]:
    """Split the classes into about √K groups (about 40 at most) of classes that are confused with each other.

    The classes are clustered by average linkage. The distance of two classes is 2 minus the share of each class that
    is predicted as the other. The tree is cut into its largest branches of at most 1.5 √K classes (3 K / 80 for more
    than 1,600 classes), and small neighboring branches are merged up to this size.

    Args:
        confusion: (K, K) counts; rows are the true classes.

    Returns:
        Class indices of each group. Groups, and classes within a group, are in the order of the tree, so that
        neighbors are similar.
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
