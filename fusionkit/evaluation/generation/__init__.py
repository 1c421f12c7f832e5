"""How good generated records are: distances to real ones, what classifiers make of them, and pictures."""
