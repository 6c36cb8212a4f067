"""Reading and conversion of public checkpoints of the same networks."""
