"""Weights of models: reading from any file, recognition, adaptation, loading, saving and sharing."""
