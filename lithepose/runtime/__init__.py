"""Runtimes: each runs a network on input images with one call."""
