# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Writers of data sets' layouts on disk."""
