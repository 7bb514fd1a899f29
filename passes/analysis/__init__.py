"""What passes want to know about kernels and programs, computed without changing them."""
