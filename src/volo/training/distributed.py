"""Processes that train together: their number, their strategy, and putting a stopped job back into SLURM's queue."""

import os
import signal
import subprocess
from types import MethodType

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import ModelParallelStrategy, Strategy
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from volo.models import VOLO, SegmentationModel
from volo.models.segmentation import backbone_of

FSDP2 = "fsdp2"


def started_processes(devices: int | str, nodes: int) -> tuple[int | str, int]:
    """Return the number of processes on each node, and the number of nodes.

    These are the numbers that torchrun or SLURM has started; without such a launcher, ``devices`` and ``nodes``.

    Args:
        devices: requested processes on each node, or ``auto``.
        nodes: requested nodes; 1 accepts any number that a launcher has started.

    Raises:
        ValueError: The requested numbers differ from those that were started.
    """
    if TorchElasticEnvironment.detect():
        local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        launcher, started = "torchrun", (local, world // local)
    elif SLURMEnvironment.detect():
        local = int(os.environ.get("SLURM_NTASKS_PER_NODE", 1))
        launcher, started = "srun", (local, int(os.environ.get("SLURM_NNODES", 1)))
    else:
        return devices, nodes
    if str(devices) not in ("auto", str(started[0])) or nodes not in (1, started[1]):
        raise ValueError(
            f"{launcher} has started {started[0]} processes on each of {started[1]} nodes, but devices is {devices} "
            f"and nodes is {nodes}; leave both out"
        )
    return started


def make_strategy(name: str) -> str | Strategy:
    """Return the name, which Lightning resolves to a strategy, or the strategy of this module for ``fsdp2``."""
    return FSDP2Strategy() if name == FSDP2 else name


class FSDP2Strategy(ModelParallelStrategy):
    """Sharded training: every process holds a shard of weights, gradients and optimizer state (``fully_shard``).

    The weights of a block are gathered while it is computed. A checkpoint holds the whole state in one file, as with
    every other strategy.
    """

    def __init__(self) -> None:
        super().__init__(save_distributed_checkpoint=False)

    def connect(self, model: pl.LightningModule) -> None:
        model.configure_model = MethodType(_shard, model)  # type: ignore[method-assign]  # Lightning calls it
        super().connect(model)

    def setup_environment(self) -> None:
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()

    def on_validation_start(self) -> None:
        # The weights stay gathered during the whole validation, since the processes may have different numbers of
        # batches and would otherwise wait for each other. BatchNorm's statistics are those of the first process, as
        # under DDP and in the checkpoint.
        for module in self._sharded():
            module.set_reshard_after_forward(False, recurse=False)
            module.unshard()
        assert self.model is not None
        for buffer in self.model.buffers():
            torch.distributed.broadcast(buffer, src=0)

    def on_validation_end(self) -> None:
        for module in self._sharded():
            module.set_reshard_after_forward(module is not self.model, recurse=False)
            module.reshard()

    def _sharded(self) -> list[FSDPModule]:
        assert self.model is not None
        return [module for module in self.model.modules() if isinstance(module, FSDPModule)]


def _shard(task: pl.LightningModule) -> None:
    """Shard ``task.model`` block by block.

    The training and validation steps are registered as forward methods, since they call other methods of the model
    than ``forward``.
    """
    assert isinstance(task.model, VOLO | SegmentationModel)
    volo = backbone_of(task.model)
    assert task.device_mesh is not None
    mesh = task.device_mesh["data_parallel"]
    task.to(memory_format=torch.contiguous_format)  # no other layout can be sharded
    groups: list[nn.Module] = [*volo.network, volo.post_network]
    for block in (block for group in groups for block in group.children()):
        fully_shard(block, mesh=mesh)
    fully_shard(task, mesh=mesh)
    for step in ("training_step", "validation_step"):
        register_fsdp_forward_method(task, step)


def requeue_job(number: signal.Signals) -> bool:
    """Put this job back into SLURM's queue if ``number`` is SIGUSR1; return whether that was done."""
    if not SLURMEnvironment.detect() or number != signal.SIGUSR1:
        return False
    job = os.environ.get("SLURM_ARRAY_JOB_ID")
    name = os.environ["SLURM_JOB_ID"] if job is None else f"{job}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return subprocess.run(["scontrol", "requeue", name], check=False).returncode == 0
