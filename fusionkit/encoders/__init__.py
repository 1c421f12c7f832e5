"""Encoders: features or windows to tokens, one file each."""
