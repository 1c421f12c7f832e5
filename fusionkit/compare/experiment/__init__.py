"""What is compared on what: strategies, folds and seeds on one split, and what their cells scored."""
