"""Checks of a checkpoint on the embedded sample, for the CI of a model repository."""
