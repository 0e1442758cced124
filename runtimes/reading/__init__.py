"""Whole texts in one call: their labels and their vectors, on any backend.

It knows the protocol `exporter.contract.one_pass_backend` and never a backend. Nothing is carried from call to call.
"""
