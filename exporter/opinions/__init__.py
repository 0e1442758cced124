"""What another implementation makes of the same checkpoint: the only witness when the reference itself is wrong."""
