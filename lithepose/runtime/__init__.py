"""Runtimes: one call each from input images to maps."""
