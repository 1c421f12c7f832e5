"""How the tasks of one model share its training: weights of losses, and surgery on gradients; one file each."""
