"""A small model to export, and photos."""

from dataclasses import asdict
from pathlib import Path

import torch

from volo.data import Preprocessing
from volo.data.embedded import photo_folder
from volo.models import create_model, save_model

NAMES = tuple("abcdefghij")


def trained(folder: Path, name: str = "volo_micro_32", *, size=(32, 32), **overrides) -> Path:
    """Save a model folder with random weights whose predictions differ clearly from image to image."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=len(NAMES), **overrides)
    for head in (model.head, model.aux_head):
        torch.nn.init.normal_(head.weight, std=0.3)
    for module in model.modules():  # with other statistics than 0 and 1, so that folding changes something
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    folder.mkdir(exist_ok=True)
    preprocessing = Preprocessing(size=size, crop_pct=0.9)
    save_model(folder, model.config, model.state_dict(), class_names=NAMES, preprocessing=asdict(preprocessing))
    return folder


def photos() -> list[Path]:
    return sorted(photo_folder().glob("*.jpg"))
