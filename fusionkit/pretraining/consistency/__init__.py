"""Semi-supervised training: answers that must not change where nothing that matters did; one method a file."""
