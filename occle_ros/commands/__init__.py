# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The commands of `occle`, by subject. What a command needs is imported when it runs: `occle --help` stays quick."""
