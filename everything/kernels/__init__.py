"""C++ kernels of the decoder, and their loader."""
