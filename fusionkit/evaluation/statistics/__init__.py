"""Tests, intervals and effect sizes for strategies that were scored on the same subjects, and words for them."""
