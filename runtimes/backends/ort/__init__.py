"""ONNX Runtime sessions, for every backend that opens one."""
