"""The stage `bridge`: it trains a Resampler and gated blocks between two frozen models, on your own data (v2 2.4)."""
