"""Tracking of people in videos, and smoothing of their joints."""
