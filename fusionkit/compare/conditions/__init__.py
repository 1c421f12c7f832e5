"""What a trained cell answers when its sensors are absent or fail."""
