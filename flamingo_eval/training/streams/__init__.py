"""Training data as streams: never whole in memory, in an order decided by seed, data set and number of the sample."""
