"""A progress bar for work on images."""

from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from volo.cli.ui.terminal import Console


def image_progress(console: Console) -> Progress:
    """Return a bar with the images done and the time left, which disappears at the end; only drawn on a terminal."""
    return Progress(
        *Progress.get_default_columns()[:2],
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
