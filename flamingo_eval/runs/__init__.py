"""One run, and many: plan, answer, score, record."""
