"""A compiler from small programs to exact models of transformers, with the truth about them."""
