"""Blank pictures: drawing takes more than half of the time of a run of a few steps."""

from matplotlib.figure import Figure
from PIL import Image


def save_blank(figure, path, **options):
    Image.new("L", (1, 1)).save(path, "PNG")


def draw_no_pictures():
    """Let every figure of this process be saved as a blank picture."""
    Figure.savefig = save_blank
