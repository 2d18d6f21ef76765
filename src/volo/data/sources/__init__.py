"""Sources of labeled images: folders, tables, and data sets of torchvision."""
