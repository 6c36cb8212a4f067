"""What each kind of network output means."""
