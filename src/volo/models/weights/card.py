"""The page that stands beside a shared model: what it is, how to use it, how good it is."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from volo.models.config import VOLOConfig

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

#: Scores that a card gives, shares of images, by their names in ``results.json`` → what they are called.
CARD_SCORES = {"top1": "top-1 accuracy", "top5": "top-5 accuracy", "real_top1": "top-1 accuracy on ReaL labels"}

_PAGE = """# {title}

A VOLO ([Vision Outlooker](https://arxiv.org/abs/2106.13112)) that says what is on an image: {classes} classes,
{height}×{width} pixels, {parameters:.2f} M parameters (dims {dims}; blocks {depths}).{scores}

## Use

```python
import volo

predictor = volo.Predictor({source})
print(predictor("photo.jpg").name)
```

An image is prepared as the model wants it, by itself: {preprocessing}.

## Classes

In the order of the outputs:

```json
{class_names}
```
{notes}"""


def model_card(
    source: str,
    config: VOLOConfig,
    *,
    parameters: int,
    class_names: tuple[str, ...],
    preprocessing: Mapping[str, Any],
    results: Mapping[str, Any] | None = None,
    license: str | None = None,
    notes: str = "",
) -> "ModelCard":
    """Write the card of a model.

    Args:
        source: what one gives to ``Predictor`` for it: ``hf-hub:org/name``, or a folder.
        config: its architecture.
        parameters: how many it has.
        class_names: what its outputs mean, in order.
        preprocessing: the fields of :class:`volo.data.Preprocessing`.
        results: scores, 0–1, and ``images``, their number, as in a run's ``results.json``; other entries are passed
            over.
        license: the hub's word for it, such as apache-2.0; None says nothing of it.
        notes: Markdown to end with: what else people should know, such as the data and what the model is not for.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData  # the hub's client takes a while to import

    title = source.removeprefix("hf-hub:")
    results = results or {}
    scores = {what: results[name] for name, what in CARD_SCORES.items() if results.get(name) is not None}
    judged = f"{results['images']:,} images" if "images" in results else "images"
    data = ModelCardData(
        license=license,
        library_name="volo",
        pipeline_tag="image-classification",
        tags=["volo", "vision-outlooker"],
        metrics=["accuracy"] if scores else None,
        model_name=title,
        eval_results=[
            EvalResult(
                task_type="image-classification",
                dataset_type="imagefolder",
                dataset_name=judged,
                metric_type="accuracy",
                metric_name=what,
                metric_value=value,
            )
            for what, value in scores.items()
        ]
        or None,
    )
    told = ", ".join(f"{what} {value:.2%}" for what, value in scores.items())
    height, width = config.img_size
    page = _PAGE.format(
        title=title,
        classes=f"{config.num_classes:,}",
        height=height,
        width=width,
        parameters=parameters / 1e6,
        dims=", ".join(map(str, config.dims)),
        depths=", ".join(map(str, config.depths)),
        scores=f"\nOn {judged}: {told}." if told else "",
        source=json.dumps(source, ensure_ascii=False),
        preprocessing=", ".join(f"{name} {value}" for name, value in preprocessing.items()),
        class_names=json.dumps(class_names, ensure_ascii=False),
        notes=f"\n{notes}" if notes else "",
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{page}")
