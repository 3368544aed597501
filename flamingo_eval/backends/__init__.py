"""Kinds of models: the bundled engine, transformers, servers, your own class. runs/backend.py loads them by name."""
