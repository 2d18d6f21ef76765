"""How far work on images has come, on one line of the terminal."""

from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from volo.cli.ui.terminal import Console


def image_progress(console: Console) -> Progress:
    """A bar with images done of all and the time left, gone when the work is; nothing where no person looks on."""
    return Progress(
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
