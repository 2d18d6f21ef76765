"""Labeled images: augmentation, label maps, batches, class balance."""
