"""The device to compute on."""

import os

import torch


def find_device(name: str | torch.device | None = None) -> torch.device:
    """Return the device with a name, or the default device.

    Args:
        name: for example ``cpu`` or ``cuda:1``. None takes an accelerator if there is one, else the CPU; under
            ``torchrun`` each process takes the accelerator of its local rank.

    Raises:
        ValueError: The device is not available on this machine.
    """
    if not name:
        if not torch.accelerator.is_available():
            return torch.device("cpu")
        return torch.device(f"{torch.accelerator.current_accelerator()}:{os.environ.get('LOCAL_RANK', 0)}")
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise ValueError("the meta device holds no values")
        torch.empty(1, device=device)
    except Exception as error:  # each backend raises its own type where it was not built or finds no driver
        available = ["cpu"]
        if torch.accelerator.is_available():
            kind = torch.accelerator.current_accelerator()
            available += [f"{kind}:{index}" for index in range(torch.accelerator.device_count())]
        raise ValueError(
            f"device {str(name)!r} is not available on this machine; available: {', '.join(available)}"
        ) from error
    return device
