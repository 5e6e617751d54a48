# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Commands: offline run, doctor, demo, launch plan, generated pages."""
