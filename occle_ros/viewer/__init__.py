# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""`occle view`: bags, recordings and the running node as sources of the viewers."""
