"""Configuration: dataclasses, YAML and flags, presets of models and GPUs as data files."""
