"""People in videos: ids that stay, joints that do not jitter."""
