"""The 1-bit engine: binary convolution by bit operations, and the files that hold binary networks."""
