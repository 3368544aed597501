"""Small benchmarks of the sample world in the official file layouts."""
