"""``volo bench``: from names to a table, figures and a picture."""

import json
import sys

from volo.cli import main


def test_models_and_peers_take_turns_in_every_runtime(tmp_path, capsys):
    output = tmp_path / "new" / "speed.png"
    words = "--models volo_micro_32 --against timm:test_vit --size 64 --rounds 3 --seconds 0.1"
    assert main(["bench", *words.split(), "--runtimes=pytorch,onnxruntime", f"--output={output}"]) == 0
    out, err = capsys.readouterr()
    said = json.loads(output.with_suffix(".json").read_text())
    assert output.stat().st_size > 10_000
    assert [(row["batch"], row["model"], row["runtime"]) for row in said["rows"]] == [
        (1, model, runtime) for model in ("volo_micro_32", "timm:test_vit") for runtime in ("pytorch", "onnxruntime")
    ]
    for row in said["rows"]:
        assert len(row["seconds_of_every_call"]) == 3
        assert row["size"] == [3, 64, 64]
        assert row["images_per_second"]["value"] > 0
        assert 0 < row["milliseconds"]["p50"] <= row["milliseconds"]["p99"]
    by_runtime = {row["runtime"]: row for row in said["rows"][:2]}
    # PyTorch is loaded by the one and not by the other.
    assert by_runtime["pytorch"]["peak_bytes"] > 1.5 * by_runtime["onnxruntime"]["peak_bytes"]
    assert said["rows"][2]["times_as_fast_as"]["timm:test_vit, pytorch"]["value"] == 1.0
    assert "fastest in float32: volo_micro_32, " in out
    assert "onnxruntime" in said["machine"]
    assert "left out" not in err


def test_a_missing_runtime_is_named_before_the_work(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["bench", "--models=volo_micro_32", "--runtimes=onnxruntime"]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err == "volo bench: this needs onnxruntime; install it with: pip install 'volo[export]'\n"
