"""Data of classification: augmentation, label maps, batches, class balance."""
