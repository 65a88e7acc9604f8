"""Just enough for AtomAI to be imported: its Gaussian process uses nothing of it, and the real one needs CUDA."""
