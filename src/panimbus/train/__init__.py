"""Training: configuration, the rules of noise, the loop, fine-tuning."""
