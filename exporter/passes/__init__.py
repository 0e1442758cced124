"""Graph passes: each file holds one, `<name>(graph, *, ...) -> int`.

A pass edits the graph in place and returns how many places it changed; run again, it changes none.
"""
