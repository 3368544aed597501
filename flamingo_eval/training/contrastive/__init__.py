"""The stage `contrastive` on the user's own pairs: an encoder for `build`, from the two-term loss (v2 B.1.3)."""
