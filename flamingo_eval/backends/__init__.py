"""Where a model's name becomes a model: the bundled engine, or transformers. See loading.py for the one way in."""
