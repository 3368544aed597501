"""Examples to Episodes to Prompts: pure functions, with keyed randomness."""
