"""Analysis of networks: complexity, receptive field, curves. Needs torch."""
