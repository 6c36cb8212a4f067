"""Metrics, and evaluation of models on annotated images."""
