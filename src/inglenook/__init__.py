"""Inglenook: private language models on your own machines, behind the OpenAI API."""

__version__ = "0.1.0"
