"""Images with masks: pairs of files, classes, augmentation and batches."""
