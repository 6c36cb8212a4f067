"""Results to images, videos and files."""
