"""Reading, evaluating and writing `onnx_ir` graphs, whatever they are lowered for.

It knows `contract` and `precision`; no torch.
"""
