"""From a prompt to tokens and text, on any backend: the token loop, sampling, beams, stopping.

It knows the backend protocol and never a backend.
"""

# A prompt's attention scores take memory with the square of the tokens of one call; longer prompts come in pieces.
PREFILL_CHUNK = 1024
# Rows that `Engine.generate_many` computes at once, unless it is told another number.
DEFAULT_BATCH = 8
