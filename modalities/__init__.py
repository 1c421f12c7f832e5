"""Sensors, one folder each."""
