# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The rolling map: accuracy, cost, memory, and a robot that drives on it."""
