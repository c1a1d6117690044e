"""The kinds of model that the worker can run, one module each, imported only when asked for.

Each module has `load(settings) -> Backend`, and may import heavy packages at its top.
"""
