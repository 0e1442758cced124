"""Rerankers that are asked: a query and a document in a prompt, and the score is how the model would answer it."""
