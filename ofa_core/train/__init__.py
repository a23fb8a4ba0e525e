"""Training by progressive shrinking, and everything around it."""
