"""The command ``mmwsss``."""
