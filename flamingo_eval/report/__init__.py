"""Finished runs -> one self-contained page, and the figure of score over shots. Reads records; imports no model."""
