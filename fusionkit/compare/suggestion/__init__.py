"""Choosing how to fuse from the data, before anything is compared."""
