"""The engine: topology, DeepSpeed configurations, the Trainer subclass, checkpoints and resume."""
