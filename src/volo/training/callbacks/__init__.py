"""What hooks into the loop of Lightning."""
