"""Training: contrastive pre-training, language model on text, Flamingo. One recipe file makes one checkpoint."""
