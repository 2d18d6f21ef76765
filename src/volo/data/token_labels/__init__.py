"""Token labels: the store, its writer, the files of the authors, and matching with images."""
