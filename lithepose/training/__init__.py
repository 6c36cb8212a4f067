"""Training: annotated images -> weights. Needs torch."""
