# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Entry point of `python -m occle_train.experiments.label_efficiency`."""

import sys

from occle_train.experiments.label_efficiency.experiment import main

sys.exit(main())
