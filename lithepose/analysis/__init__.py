"""What a network is like: complexity, receptive field, curves. Needs torch."""
