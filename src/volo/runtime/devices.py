"""Where to compute."""

import os

import torch


def find_device(name: str | torch.device | None = None) -> torch.device:
    """The device of a name; without one an accelerator where there is one, else the CPU.

    Of several accelerators under ``torchrun`` each process takes its own.

    Raises:
        ValueError: there is no such device on this machine.
    """
    if not name:
        if not torch.accelerator.is_available():
            return torch.device("cpu")
        return torch.device(f"{torch.accelerator.current_accelerator()}:{os.environ.get('LOCAL_RANK', 0)}")
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise ValueError("it holds no values")
        torch.empty(1, device=device)
    except Exception as error:  # of as many kinds as there are backends that were not built or find no driver
        here = ["cpu"]
        if torch.accelerator.is_available():
            kind = torch.accelerator.current_accelerator()
            here += [f"{kind}:{index}" for index in range(torch.accelerator.device_count())]
        raise ValueError(f"there is no device {str(name)!r} on this machine; there are: {', '.join(here)}") from error
    return device
