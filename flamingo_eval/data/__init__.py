"""Official files to Examples, and media to pixels."""
