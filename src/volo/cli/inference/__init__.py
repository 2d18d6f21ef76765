"""The commands that use a trained model: predict, evaluate, export, measure."""
