"""Fine-tuning and recalibration of a model on annotated cells."""
