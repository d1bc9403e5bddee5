"""One HTML page about one or several runs: scores, curves, confusion and pictures."""
