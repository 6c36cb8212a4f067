"""Movement: angles and distances of people over the frames of a video. Needs no torch."""
