"""Images with masks: pairs, classes, augmentation, batches."""
