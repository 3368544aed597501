"""Helpers of several test files: small models, files in official layouts, a simulated device."""
