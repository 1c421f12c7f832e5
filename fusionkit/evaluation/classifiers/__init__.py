"""Classifiers that judge data rather than models: small, quick and always the same; one file each."""
