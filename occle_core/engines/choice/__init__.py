# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Engine `auto`: which one this machine takes, on CPUs by measurement and on CUDA by parity."""
