"""Speed measurements: `python -m benchmarks`. Results and methods are in benchmarks/README.md."""
