"""Speed, measured: `python -m benchmarks`. Figures and how they were taken: benchmarks/README.md."""
