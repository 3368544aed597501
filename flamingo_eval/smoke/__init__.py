"""Does a checkpoint still work? Checks for the CI of a model repository, on the embedded sample."""
