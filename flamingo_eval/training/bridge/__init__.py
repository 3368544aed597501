"""The stage `bridge`: Resampler and gated blocks trained between two frozen models, on the user's own data (v2 2.4)."""
