import pytest
from matplotlib.figure import Figure
from pictures import save_blank


@pytest.fixture
def blank_pictures(monkeypatch):
    """Every figure is saved as a blank picture, for tests of runs whose pictures nobody looks at."""
    monkeypatch.setattr(Figure, "savefig", save_blank)
