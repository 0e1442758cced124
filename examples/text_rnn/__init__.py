"""Text in, trained network, verified engine out: a complete small system for Chinese and English.

    python -m examples.text_rnn --help

Each file is one step of the way; `__main__.py` names them in their order.
"""
