"""Runtimes: one call each from input pictures to maps."""
