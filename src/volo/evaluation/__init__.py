"""Scores, plots and files about how good a model is."""
