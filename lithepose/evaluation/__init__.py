"""Metrics, and models measured on annotated images."""
