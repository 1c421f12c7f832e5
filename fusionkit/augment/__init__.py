"""Generic augmentations, one file each."""
