"""The common base of evaluations of any task. Needs the extra ``volo[train]``."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from volo.data.read_notes import NamedNote
from volo.evaluation.confusion import confused_pairs, group_classes
from volo.evaluation.metrics import confidence_intervals

#: Decimal places of scores in ``summary()`` and ``results.json``.
_DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class BaseEvaluation(ABC):
    """Results of a model on labeled images, and the scores that follow from them.

    N readable images, K classes.

    Attributes:
        score_names: key in ``scores`` → name in tables and plots; the first score is the headline.
        counted: unit of ``confusion``: "images" or "pixels".
        class_names: names of the K classes, in the order of their indices.
        indices: (N,) positions of the images in the data.
        problems: one message for each unreadable image.
        notes: remarks about images that were read.
        trained_on: number of these images that the model was trained on; None if it is unknown.
    """

    score_names: ClassVar[Mapping[str, str]]
    counted: ClassVar[str]

    class_names: tuple[str, ...]
    indices: np.ndarray
    problems: tuple[str, ...] = ()
    notes: tuple[NamedNote, ...] = ()
    trained_on: int | None = None

    # A field in one subclass and a cached property in another. For the field, a property that exists at run time
    # would become the default value.
    if TYPE_CHECKING:

        @property
        def confusion(self) -> np.ndarray:
            """(K, K) int64 counts; rows are the true classes."""

    @property
    @abstractmethod
    def support(self) -> np.ndarray:
        """(K,) number of images or pixels of each true class."""

    @abstractmethod
    def _scores_of(self, rows: np.ndarray) -> dict[str, float | None]:
        """Return the scores of some images, given as indices of rows (any length)."""

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """Return the scores and their 95 % intervals as JSON values."""

    @cached_property
    def scores(self) -> dict[str, Any]:
        """Scores of all images together, 0–1; None for a score that is undefined. Keys as in ``score_names``."""
        return self._scores_of(np.arange(len(self.indices)))

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float] | None]:
        """95 % confidence intervals of ``scores`` over images: see :func:`confidence_intervals`."""
        return confidence_intervals(self._scores_of, len(self.indices))

    @property
    def headline(self) -> str:
        """The most important score with its name, such as "top-1 81.20%"."""
        key, name = next(iter(self.score_names.items()))
        return f"{name} {self.scores[key]:.2%}"

    @cached_property
    def confused(self) -> list[tuple[int, int, int]]:
        """(true class, predicted class, count) of every confusion, the most frequent first."""
        return confused_pairs(self.confusion)

    @cached_property
    def groups(self) -> list[np.ndarray]:
        """Groups of classes that are often confused, as class indices: see :func:`group_classes`."""
        return group_classes(self.confusion)

    @property
    def absent(self) -> tuple[str, ...]:
        """Names of the classes that do not occur in the data."""
        return tuple(name for name, count in zip(self.class_names, self.support, strict=True) if not count)

    def _rounded_intervals(self) -> dict[str, list[float] | None]:
        return {name: ends and [round(end, _DIGITS) for end in ends] for name, ends in self.intervals.items()}


def rounded(scores: Mapping[str, float | None]) -> dict[str, float | None]:
    """Return scores with six decimal places; None stays None."""
    return {name: None if score is None else round(score, _DIGITS) for name, score in scores.items()}
