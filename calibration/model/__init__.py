"""A torch model seen as layers that run one after the other."""
