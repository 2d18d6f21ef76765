"""``volo bench``: the table, the figures and the picture of named models."""

import json
import sys

from volo.cli import main


def test_models_and_baselines_are_measured_in_every_runtime(tmp_path, capsys):
    output = tmp_path / "new" / "speed.png"
    words = "--models volo_micro_32 --against timm:test_vit --size 64 --rounds 3 --seconds 0.1"
    assert main(["bench", *words.split(), "--runtimes=pytorch,onnxruntime", f"--output={output}"]) == 0
    out, err = capsys.readouterr()
    results = json.loads(output.with_suffix(".json").read_text())
    assert output.stat().st_size > 10_000
    assert [(row["batch"], row["model"], row["runtime"]) for row in results["rows"]] == [
        (1, model, runtime) for model in ("volo_micro_32", "timm:test_vit") for runtime in ("pytorch", "onnxruntime")
    ]
    for row in results["rows"]:
        assert len(row["seconds_of_every_call"]) == 3
        assert row["size"] == [3, 64, 64]
        assert row["images_per_second"]["value"] > 0
        assert 0 < row["milliseconds"]["p50"] <= row["milliseconds"]["p99"]
    by_runtime = {row["runtime"]: row for row in results["rows"][:2]}
    # Only the first process loads PyTorch.
    assert by_runtime["pytorch"]["peak_bytes"] > 1.5 * by_runtime["onnxruntime"]["peak_bytes"]
    assert results["rows"][2]["times_as_fast_as"]["timm:test_vit, pytorch"]["value"] == 1.0
    assert "fastest in float32: volo_micro_32, " in out
    assert "onnxruntime" in results["machine"]
    assert "left out" not in err


def test_a_missing_runtime_is_reported_before_the_benchmark(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["bench", "--models=volo_micro_32", "--runtimes=onnxruntime"]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err == "volo bench: this needs onnxruntime; install it with: pip install 'volo[export]'\n"
