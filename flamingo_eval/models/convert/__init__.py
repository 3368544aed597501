"""Foreign checkpoints -> our checkpoint folders. Every tensor is accounted for; nothing is trained or guessed."""
