# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Time of a frame, by engine, compiler, revision and size of the input."""
