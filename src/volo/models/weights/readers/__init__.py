"""Files of weights that need a reader of their own."""
