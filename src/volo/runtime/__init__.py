"""Runtimes that run a model: PyTorch, ONNX Runtime, OpenVINO, and PyTorch's ``.pt2`` archives."""
