"""panimbus."""
