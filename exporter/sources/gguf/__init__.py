"""GGUF files: their header and keys, the configuration, the tokenizer and the weights that they stand for.

`file` loads one; each other module knows one part of the format. All of it is read by llama.cpp's own keys.
"""
