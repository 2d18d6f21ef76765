"""Where a run's figures go beside ``metrics.csv``: Lightning's own loggers."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from volo.names import nearest


def _tensorboard(folder: Path) -> Logger:
    return TensorBoardLogger(folder, name="", version="tensorboard")


def _wandb(folder: Path) -> Logger:
    return WandbLogger(project="volo", name=folder.name, save_dir=folder)


def _mlflow(folder: Path) -> Logger:
    return MLFlowLogger(experiment_name="volo", run_name=folder.name)


#: name → the packages of which one must be installed, and what makes the logger.
_LOGGERS: dict[str, tuple[tuple[str, ...], Callable[[Path], Logger]]] = {
    "tensorboard": (("tensorboard", "tensorboardX"), _tensorboard),
    "wandb": (("wandb",), _wandb),
    "mlflow": (("mlflow", "mlflow_skinny"), _mlflow),
}


def make_loggers(names: Sequence[str], folder: Path) -> list[Logger]:
    """The loggers of these names, for the run in ``folder``.

    Raises:
        ValueError: there is no such logger, or its package is not installed.
    """
    loggers = []
    for name in names:
        if name not in _LOGGERS:
            raise ValueError(f"there is no logger {name!r}{nearest(name, _LOGGERS)}")
        packages, make = _LOGGERS[name]
        if not any(find_spec(package) for package in packages):
            raise ValueError(f"the logger {name} needs {packages[0]}; install it with: pip install {packages[0]}")
        loggers.append(make(folder))
    return loggers
