"""A network rewritten for inference: norms folded, weights packed."""
