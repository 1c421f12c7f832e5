"""Buffers that keep some records of a stream which gives each only once, one a file."""
