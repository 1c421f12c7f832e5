"""What can be learned from records without labels: one objective a file."""
