"""Foreign checkpoints -> checkpoint folders of ours. Every tensor is accounted for; nothing is trained or guessed."""
