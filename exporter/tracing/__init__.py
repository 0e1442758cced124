"""Source module -> portable graph. Its files import torch and are imported only when something is traced."""
