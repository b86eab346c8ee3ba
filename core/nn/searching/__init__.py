"""What search is made of: beams, samples, rules about tokens."""
