"""Comparing ways to fuse, and choosing one from the data."""
