"""Registered steps of a pseudo labeler."""
