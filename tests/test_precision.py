import pytest

from volo.precision import EXPORT_PRECISIONS, PRECISIONS, canonical_precision


def test_names_stay_and_synonyms_become_names():
    assert [canonical_precision(name) for name in PRECISIONS] == list(PRECISIONS)
    assert [canonical_precision(name) for name in ("32-true", "bf16-mixed", "float16")] == list(PRECISIONS)
    assert canonical_precision("int8", EXPORT_PRECISIONS) == "int8"


@pytest.mark.parametrize(
    ("name", "message"), [("fp61", "did you mean 'fp16'"), ("int8", "available: fp32, bf16, fp16")]
)
def test_an_unknown_precision_is_an_error_that_lists_what_there_is(name, message):
    with pytest.raises(ValueError, match=f"unknown precision '{name}'; {message}"):
        canonical_precision(name)
