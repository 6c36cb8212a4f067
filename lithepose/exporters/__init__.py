"""Export of trained weights to files that run without torch. Needs torch."""
