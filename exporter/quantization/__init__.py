"""From a source's weights to integers: which matrix gets which weight format, and what that costs.

It knows `calibration`, `contract`, `jobs`, `precision` and `sources`.
"""
