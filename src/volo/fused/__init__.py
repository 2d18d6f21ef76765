"""Networks rewritten for inference: normalizations folded, weights packed."""
