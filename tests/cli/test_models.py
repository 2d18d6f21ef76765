from commands import volo


def test_models_lists_every_size(capsys):
    assert volo("models") == 0
    out = capsys.readouterr().out
    for words in ("volo_d1_224", "26.63", "volo_d5_512", "296.09", "volo_micro_32"):
        assert words in out
