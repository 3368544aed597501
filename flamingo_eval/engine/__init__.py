"""What makes evaluation fast: pictures encoded once, prompts prefilled once, beams and candidates as branches."""
