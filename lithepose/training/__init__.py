"""Training: annotated photos -> weights. Needs torch."""
