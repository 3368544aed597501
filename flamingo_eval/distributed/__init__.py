"""Beyond one process: a run cut into work units that replicas of a model pull, and one process that writes."""
