"""The engine, its checkpoints and its schedule."""
