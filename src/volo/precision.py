"""Names of numeric precisions: one vocabulary for training, token labels and export."""

from collections.abc import Sequence

from volo.messages import nearest

#: Precisions that a model computes in. ``bf16`` and ``fp16`` are mixed in training: weights stay float32.
PRECISIONS = ("fp32", "bf16", "fp16")
#: Those of an exported file: ``int8`` holds quantized weights and computes with them.
EXPORT_PRECISIONS = (*PRECISIONS, "int8")

#: Lightning's and PyTorch's names, which configurations of earlier versions hold, too.
_SYNONYMS = {
    **dict.fromkeys(("32-true", "32", "float32"), "fp32"),
    **dict.fromkeys(("bf16-mixed", "bfloat16"), "bf16"),
    **dict.fromkeys(("16-mixed", "float16"), "fp16"),
}


def canonical_precision(name: str, known: Sequence[str] = PRECISIONS) -> str:
    """Return the project's name of a precision: ``fp32`` for ``32-true``, ``bf16`` for ``bf16-mixed``.

    Raises:
        ValueError: The precision is not among ``known``.
    """
    precision = _SYNONYMS.get(name, name)
    if precision not in known:
        raise ValueError(f"unknown precision {name!r}{nearest(precision, known)}")
    return precision
