"""Graph passes: each file holds one, `<name>(graph, *, ...) -> int`, which edits in place and returns how often it fired."""
