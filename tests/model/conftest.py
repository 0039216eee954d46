"""Tests of the model run on one thread: two threads are many times slower beside another busy process."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
