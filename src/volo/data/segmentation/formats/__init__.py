"""Storage of masks: layouts of folders, and mask files."""
