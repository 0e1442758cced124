"""ONNX Runtime on a GPU."""
