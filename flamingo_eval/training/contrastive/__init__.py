"""The stage `contrastive` on your own pairs: it trains an encoder for `build` with the two-term loss (v2 B.1.3)."""
