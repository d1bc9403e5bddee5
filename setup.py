"""Entry point for tools that still call it; all metadata stands in pyproject.toml."""

from setuptools import setup

setup()
