"""Training steps written plainly: what the official procedures do, without any of our shortcuts."""
