"""The model card of a shared model: a description of the model, lines of code to use it, and its scores."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from volo.messages import printable
from volo.models.config import VOLOConfig
from volo.models.segmentation import SegmentationConfig
from volo.models.weights.model_folder import CLASSIFICATION, SEGMENTATION

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

#: Task → the scores of a card, each between 0 and 1: key in ``results.json`` → (name on the card, the hub's metric).
CARD_SCORES = {
    CLASSIFICATION: {
        "top1": ("top-1 accuracy", "accuracy"),
        "top5": ("top-5 accuracy", "accuracy"),
        "real_top1": ("top-1 accuracy on ReaL labels", "accuracy"),
    },
    SEGMENTATION: {"miou": ("mean IoU", "mean_iou"), "pixel_accuracy": ("pixel accuracy", "accuracy")},
}

#: Task → tags for the hub's search.
_TAGS = {
    CLASSIFICATION: ["volo", "vision-outlooker"],
    SEGMENTATION: ["volo", "vision-outlooker", "semantic-segmentation"],
}

_PAGE = """# {title}

A VOLO ([Vision Outlooker](https://arxiv.org/abs/2106.13112)) that {purpose}, {parameters:.2f} M parameters \
(dims {dims}; blocks {depths}).{scores}

## Use

{usage}: {preprocessing}.

## Classes

In the order of the outputs:

```json
{class_names}
```
{notes}"""

_PURPOSE = {
    CLASSIFICATION: "classifies images: {classes} classes,\n{height}×{width} pixels",
    SEGMENTATION: "segments images, with the decoder {decoder}: {classes} classes,\ncrops of {height}×{width} pixels",
}

_USAGE = {
    CLASSIFICATION: """```python
import volo

predictor = volo.Predictor({source})
print(predictor("photo.jpg").name)
```

The predictor preprocesses each image by itself""",
    SEGMENTATION: """```python
import volo

segmenter = volo.Segmenter({source})
segmenter("photo.jpg").to_pil().save("mask.png")
```

This needs the extra `volo[segment]`. The mask holds the index of each pixel's class, and the class colors as its
palette. The segmenter preprocesses each image by itself""",
}


def model_card(
    source: str,
    config: VOLOConfig | SegmentationConfig,
    *,
    parameters: int,
    class_names: tuple[str, ...],
    preprocessing: Mapping[str, Any],
    results: Mapping[str, Any] | None = None,
    license: str | None = None,
    notes: str = "",
) -> "ModelCard":
    """Write the card of a classifier or of a segmentation model.

    Args:
        source: the argument of ``Predictor`` or ``Segmenter`` that loads the model: ``hf-hub:org/name``, or a folder.
        config: the architecture; its type gives the task.
        parameters: the number of parameters.
        class_names: the class of each output, in order.
        preprocessing: the fields of :class:`volo.data.Preprocessing`, and any other setting to list beside them.
        results: scores, 0–1, by the keys of ``CARD_SCORES``, and ``images``, the number of images, as in a run's
            ``results.json``; other entries are ignored.
        license: the hub's identifier of the license, such as apache-2.0; None leaves it out.
        notes: Markdown for the end of the card, such as the training data and what the model must not be used for.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData  # the hub's client takes a while to import

    task = SEGMENTATION if isinstance(config, SegmentationConfig) else CLASSIFICATION
    backbone = config.backbone if isinstance(config, SegmentationConfig) else config
    hub_task, title = f"image-{task}", printable(source.removeprefix("hf-hub:"))
    results = results or {}
    scores = {key: results[key] for key in CARD_SCORES[task] if results.get(key) is not None}
    names = CARD_SCORES[task]
    images = f"{results['images']:,} images" if "images" in results else "images"
    data = ModelCardData(
        license=license,
        library_name="volo",
        pipeline_tag=hub_task,
        tags=_TAGS[task],
        metrics=list(dict.fromkeys(names[key][1] for key in scores)) or None,
        model_name=title,
        eval_results=[
            EvalResult(
                task_type=hub_task,
                dataset_type="imagefolder",
                dataset_name=images,
                metric_type=names[key][1],
                metric_name=names[key][0],
                metric_value=value,
            )
            for key, value in scores.items()
        ]
        or None,
    )
    score_list = ", ".join(f"{names[key][0]} {value:.2%}" for key, value in scores.items())
    height, width = backbone.img_size
    purpose = _PURPOSE[task].format(
        classes=f"{config.num_classes:,}",
        height=height,
        width=width,
        decoder=config.decoder if isinstance(config, SegmentationConfig) else None,
    )
    page = _PAGE.format(
        title=title,
        purpose=purpose,
        parameters=parameters / 1e6,
        dims=", ".join(map(str, backbone.dims)),
        depths=", ".join(map(str, backbone.depths)),
        scores=f"\nOn {images}: {score_list}." if scores else "",
        usage=_USAGE[task].format(source=_printable_json(source)),
        preprocessing=", ".join(printable(f"{name} {value}") for name, value in preprocessing.items()),
        class_names=_printable_json(class_names),
        notes=f"\n{notes}" if notes else "",
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{page}")


def _printable_json(value: Any) -> str:
    """Return JSON in which the characters that :func:`printable` escapes are escaped in JSON's way."""
    text = json.dumps(value, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(
        character if printable(character) == character else json.dumps(character)[1:-1] for character in text
    )
