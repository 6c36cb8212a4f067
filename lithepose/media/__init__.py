"""Reading of images, animations, videos, cameras and streams."""
