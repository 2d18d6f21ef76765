"""What the commands share: parser, terminal, progress, reading of images, options of a model."""
