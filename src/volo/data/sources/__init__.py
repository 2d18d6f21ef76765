"""Where labeled images come from: folders, tables, data sets of torchvision."""
