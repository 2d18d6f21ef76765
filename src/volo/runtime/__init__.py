"""What runs a model: a PyTorch module, ONNX Runtime, OpenVINO, ``.pt2``."""
