"""What computes the mask decoder's algebra: C++ kernels, PyTorch on a CPU or a GPU, Triton."""
