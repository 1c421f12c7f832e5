"""Augmenters that make new records of a class: generative models, and copies of real records changed a little."""
