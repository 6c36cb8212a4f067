"""The 1-bit engine: binary convolution by bit operations, and files of binary networks."""
