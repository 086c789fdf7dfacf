"""Models: loading and building, attention backends and their proof, adapters, export.

Import the module that you need (`medscroll.model.load`, `.attention`, ...); this file stays empty, so that importing
the package costs nothing.
"""
