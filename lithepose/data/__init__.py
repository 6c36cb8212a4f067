"""Annotated image sets: reading, formats, cached images."""
