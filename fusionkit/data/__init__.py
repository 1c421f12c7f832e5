"""Studies, splits and loading."""
