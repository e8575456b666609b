"""The primitives, one family a file, named in PyTorch's words: forward and derivative side by side."""
