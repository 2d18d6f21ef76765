"""The command ``volo`` in this process, and a small classifier for it."""

import torch

from volo.cli import main
from volo.models import create_model, save_model

TRAINING = ("--model.name=volo_micro_32", "--batch-size=8", "--data.workers=0", "--optim.warmup-epochs=0")
PREPROCESSING = {"size": [32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


def volo(*arguments):
    return main([str(argument) for argument in arguments])


def save_classifier(folder, class_names=("blue", "green", "red"), **options):
    """Write the model folder of an untrained classifier."""
    torch.manual_seed(0)
    model = create_model("volo_micro_32", num_classes=len(class_names), **options)
    folder.mkdir()
    save_model(folder, model.config, model.state_dict(), class_names=class_names, preprocessing=PREPROCESSING)
    return folder
