"""Training data: silver and gold standards, splits, the store of tiles, augmentation, Pan-M."""
