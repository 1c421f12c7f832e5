"""From a bundle to predictions, without torch."""
