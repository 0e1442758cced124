"""TensorRT and TensorRT-RTX: plans, how they are built and kept, and what runs them. One code path for both."""
