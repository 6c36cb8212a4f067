"""Public checkpoints of the same networks, read and converted."""
