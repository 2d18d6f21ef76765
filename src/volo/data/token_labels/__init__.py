"""Token labels: the store, its writer, the authors' files, and matching with images."""
