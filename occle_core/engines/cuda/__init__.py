"""NVIDIA GPUs: what their engines require, and copies to and from them."""
