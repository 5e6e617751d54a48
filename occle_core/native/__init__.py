"""Compiled kernels for CPUs: C++ sources that are built at first use, the library that they make, and checked calls of it."""
