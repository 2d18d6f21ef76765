"""Labeling: a teacher network makes token labels for every region of every image."""
