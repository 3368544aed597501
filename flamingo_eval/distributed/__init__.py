"""Runs over several processes: replicas of a model pull work units of a run, and one process writes the results."""
