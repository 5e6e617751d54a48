# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The static form: a network as one program of fixed shapes, for engines that need one."""
