"""``volo models``: list the model sizes."""

from collections.abc import Sequence

import torch
from rich.table import Table

from volo.cli.ui.parser import VerbParser, parse
from volo.cli.ui.terminal import Console, say
from volo.models import create_model, list_models
from volo.models.weights.published import shipped_weights


def run(arguments: Sequence[str]) -> int:
    """Print a row for each name."""
    parse(parser(), arguments)
    table = Table()
    for heading in ("name", "pixels", "patch", "parameters", "dims", "blocks"):
        table.add_column(heading, justify="left" if heading == "name" else "right", no_wrap=True)
    for name in list_models():
        with torch.device("meta"):
            model = create_model(name)
        config = model.config
        parameters = sum(parameter.numel() for parameter in model.parameters())
        table.add_row(
            name,
            f"{config.img_size[0]}",
            f"{config.patch_size}",
            f"{parameters / 1e6:.2f} M",
            ", ".join(map(str, config.dims)),
            ", ".join(map(str, config.depths)),
        )
    Console().print(table)
    say(f"trained weights: {', '.join(shipped_weights())} in the package; volo weights list has all")
    return 0


def parser() -> VerbParser:
    """Return the parser of ``volo models``, which has no options."""
    return VerbParser(prog="volo models", usage="", description="List the model sizes.")
