"""Shared parts of the commands: parser, help, terminal, progress, image reader, options of a model."""
