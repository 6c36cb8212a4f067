"""Trained weights as files that run without torch. Needs torch."""
