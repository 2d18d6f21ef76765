"""The commands that train, and that prepare and compare training."""
