"""Tasks and their heads, one file each."""
