"""The fusion graph and its operations, one file each."""
