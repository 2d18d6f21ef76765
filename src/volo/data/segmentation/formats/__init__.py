"""How masks are stored: layouts of folders, and mask files."""
