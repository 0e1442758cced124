"""The command line of `jisu compare`."""
