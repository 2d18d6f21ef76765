"""``volo weights``: inspect, convert, list and download weights."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from huggingface_hub import ModelCard
from rich.table import Table

from volo.cli.ui.parser import VerbParser, parse
from volo.cli.ui.terminal import Console, say
from volo.messages import nearest
from volo.models import VARIANTS, WEIGHTS, create_model, load_model
from volo.models.weights.convert import SYSTEMS, convert
from volo.models.weights.hub import cached, fetch
from volo.models.weights.identify import Identity, identify
from volo.models.weights.load import HUB, LocatedCheckpoint, locate
from volo.models.weights.published import shipped_weights, weights_name
from volo.models.weights.read import not_finite
from volo.models.weights.trained import CARD_FILE

_SOURCE = "file, model folder, hf-hub:org/name[@revision], web address, or name of published weights"


def run(arguments: Sequence[str]) -> int:
    """Run one of ``ACTIONS``."""
    if not arguments or arguments[0] in ("-h", "--help"):
        say("usage: volo weights ACTION [options]\n")
        for name, (_, _, description) in ACTIONS.items():
            say(f"  {name:<9} {description}")
        say("\nvolo weights ACTION --help describes an action.")
        return 0
    action, *rest = arguments
    action = {"fetch": "download"}.get(action, action)
    if action not in ACTIONS:
        raise ValueError(f"unknown action {action!r}{nearest(action, ACTIONS)}")
    return ACTIONS[action][0](rest)


def parser(action: str) -> VerbParser:
    """Return the parser of an action."""
    _, usage, description = ACTIONS[action]
    parser = VerbParser(
        prog=f"volo weights {action}", usage=usage, description=description[0].upper() + description[1:] + "."
    )
    if action in ("inspect", "convert"):
        parser.add_argument("source", metavar="SOURCE", help=_SOURCE)
        parser.add_argument("--ema", type=bool | None, help="take the averaged weights, or not (default: if any)")
    if action == "convert":
        parser.add_argument("destination", metavar="DESTINATION", help="file or folder to write; it must not exist")
        systems = "; ".join(f"{name}: {what}" for name, what in SYSTEMS.items())
        parser.add_argument("--to", metavar="SYSTEM", type=str, required=True, help=systems)
    if action == "download":
        parser.add_argument("name", metavar="NAME", help="name of published weights, or hf-hub:org/name")
        parser.add_argument("--revision", type=str | None, help="branch, tag or commit (default: the main branch)")
    return parser


def _inspect(arguments: Sequence[str]) -> int:
    """Print the content of a file of weights, also of one that cannot be loaded."""
    options = parse(parser("inspect"), arguments)
    found = locate(options["source"], ema=options["ema"])
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for row in _contents(found):
        table.add_row(*row)
    try:
        identity = identify(found.checkpoint.weights, found.checkpoint.origin, described=found.architecture)
        damage = not_finite(found.checkpoint.weights)
        problems = [*identity.problems, *([f"has {damage}"] if damage else [])]
        for row in _model_rows(found, identity, problems):
            table.add_row(*row)
    finally:
        Console().print(table)
    if problems:
        raise ValueError(f"{found.checkpoint.origin} cannot be loaded: it {'; '.join(problems)}")
    return 0


def _contents(found: LocatedCheckpoint) -> list[tuple[str, str]]:
    """Return rows about the content, whether or not it is a VOLO."""
    checkpoint = found.checkpoint
    kinds = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in checkpoint.weights.values())
    values, size = (sum(f(tensor) for tensor in checkpoint.weights.values()) for f in (torch.numel, lambda t: t.nbytes))
    rows = [("weights", checkpoint.origin), ("format", checkpoint.form)]
    if checkpoint.part:
        rows.append(("entry", f"{checkpoint.part}; other entries: {', '.join(checkpoint.beside) or 'none'}"))
    if checkpoint.choice:
        rows.append(("average", checkpoint.choice))
    if checkpoint.prefix:
        rows.append(("prefix", f"every name begins with {checkpoint.prefix!r}"))
    if checkpoint.about:
        rows.append(
            ("metadata", ", ".join(f"{key}={str(value)[:60]}" for key, value in list(checkpoint.about.items())[:6]))
        )
    types = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    rows.append(
        ("tensors", f"{len(checkpoint.weights)} ({types}), {values / 1e6:.2f} M values, {size / 2**20:.1f} MiB")
    )
    if found.description:
        names = found.description.class_names
        rows.append(("described", f"by {found.description.writer}" + (f", {len(names)} class names" if names else "")))
    return rows


def _model_rows(found: LocatedCheckpoint, identity: Identity, problems: Sequence[str]) -> list[tuple[str, str]]:
    """Return rows about the model that the tensors belong to, and about the ``problems`` that prevent its use."""
    config = identity.config
    heads = f"{identity.classes} classes" if identity.classes else "none"
    rows = [
        ("model", identity.variant or "a VOLO of none of the named sizes"),
        ("image", f"{config.img_size[0]}x{config.img_size[1]} pixels, {config.in_chans} channels"),
        ("heads", f"{heads}, {'with' if identity.token_head else 'without'} a token head"),
        ("body", f"dims {config.dims}, blocks {config.depths}, heads {config.heads}, MLP ratio {config.mlp_ratio:g}"),
    ]
    if identity.names and not problems:
        classes = identity.classes or 0
        given = "" if classes == VARIANTS[identity.names[0]].num_classes else f", num_classes={classes}"
        rows.append(("use", f"volo.create_model({identity.names[0]!r}, pretrained={found.checkpoint.origin!r}{given})"))
    rows.append(("problems", "; ".join(problems) or "none"))
    return rows


def _convert(arguments: Sequence[str]) -> int:
    options = parse(parser("convert"), arguments)
    trained = convert(options["source"], options["destination"], to=options["to"], ema=options["ema"])
    values = sum(parameter.numel() for parameter in trained.model.parameters())
    say(f"{values / 1e6:.2f} M parameters are in {options['destination']}, {SYSTEMS[options['to']]}")
    return 0


def _list(arguments: Sequence[str]) -> int:
    parse(parser("list"), arguments)
    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading in ("name", "px", "params", "GMACs", "top-1", "timm", "crop", "license", "cached"):
        table.add_column(heading, justify="left" if heading in ("name", "license") else "right", no_wrap=True)
    for name, *figures in (*_published(), *_shipped()):
        model = name.partition(".")[0]
        with torch.device("meta"):
            values = sum(parameter.numel() for parameter in create_model(model).parameters())
        table.add_row(name, str(VARIANTS[model].img_size[0]), f"{values / 1e6:.2f}M", *figures)
    console = Console()
    console.print(table)
    console.print("top-1: ImageNet-1k, %, by the authors and by timm; interpolation: bicubic")
    console.print("shipped: in the package, top-1 on held-out images of its own data", soft_wrap=True)
    return 0


def _published() -> Iterator[tuple[str, ...]]:
    """Yield name, multiply-adds, scores, crop, license and state of the cache of the published weights."""
    for row in WEIGHTS.values():
        figures = (f"{row.gmacs:g}", f"{row.authors_top1:.1f}", f"{row.top1:.3f}", f"{row.crop_pct:g}", row.license)
        yield row.name, *figures, "yes" if cached(row.repo) else "no"


def _shipped() -> Iterator[tuple[str, ...]]:
    """Yield the same of the weights in the package; what is unknown is left empty."""
    for name, folder in shipped_weights().items():
        card, crop = ModelCard.load(folder / CARD_FILE).data, load_model(folder).preprocessing["crop_pct"]
        yield name, "", f"{100 * card.eval_results[0].metric_value:.1f}", "", f"{crop:g}", card.license, "shipped"


def _download(arguments: Sequence[str]) -> int:
    options = parse(parser("download"), arguments)
    name = options["name"]
    if not name.startswith(HUB):
        name = weights_name(name)
        if name in shipped_weights():
            say(f"{name} comes with the package: {shipped_weights()[name]}")
            return 0
    repo = name.removeprefix(HUB) if name.startswith(HUB) else WEIGHTS[name].repo
    folder = fetch(repo, revision=options["revision"], refresh=True)
    files = ", ".join(sorted(path.name for path in Path(folder).iterdir()))
    say(f"{repo} is in {folder}: {files}")
    return 0


#: Action → its function, its arguments, and what it does.
ACTIONS = {
    "inspect": (
        _inspect,
        "SOURCE [options]",
        "report what weights are, which model fits them, and what is wrong with them",
    ),
    "convert": (_convert, "SOURCE DESTINATION --to SYSTEM", "write weights for another system"),
    "list": (_list, "", "list the published weights and those in the package"),
    "download": (_download, "NAME [options]", "download weights from the Hugging Face hub into its cache"),
}
