"""Small language models and classifiers of our own, trained and traced as they stand.

Each network is written once: training calls it on whole sequences, a runtime on new tokens with the state so far. Its
files import torch and are imported only when a model is built.
"""
