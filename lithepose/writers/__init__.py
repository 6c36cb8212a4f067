"""Writes results to images, videos and files."""
