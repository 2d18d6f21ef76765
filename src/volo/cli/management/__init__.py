"""The commands about data, weights and this installation."""
