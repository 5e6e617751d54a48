# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Compiled kernels for CPUs: C++ sources that are built at first use, the library that they make, and checked calls of it."""
