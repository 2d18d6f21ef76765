"""Any file of weights ↔ tensors ↔ a model: read, identify, adapt, load, save, share."""
