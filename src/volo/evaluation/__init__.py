"""Evaluation of models: scores, plots and files."""
