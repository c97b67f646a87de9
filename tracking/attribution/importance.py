"""How much flows through each head: its share of |score|, and the shift between checkpoints."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from tracking.model.graph import Graph


def importance(graph: Graph, edges: Tensor) -> pd.DataFrame:
    """One row a head, from signed scores [source, target].

    - `inflow`, `outflow`: sums of |score| over the edges into its q, k and v, and out of it
    - `importance`: outflow over that of all heads ("Thinking Sparks!", A.6)
    - `importance_symmetric`: the same of inflow and outflow together
    """
    strength = edges.abs()
    outflow = strength[graph.head_sources].sum(1)  # [head]
    columns = [
        strength[:, graph.attention_columns(layer)].sum(0) for layer in range(graph.n_layers)
    ]
    inflow = torch.cat([column.view(3, -1).sum(0) for column in columns])
    both = inflow + outflow
    return pd.DataFrame(
        {
            "head": graph.head_names,
            "inflow": inflow.numpy(),
            "outflow": outflow.numpy(),
            "importance": (outflow / outflow.sum().clamp(min=1e-12)).numpy(),
            "importance_symmetric": (both / both.sum().clamp(min=1e-12)).numpy(),
        }
    )


def shift(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Change of importance between two checkpoints, from -1 to 1: (after - before) / (after +
    before + 1e-6) ("Thinking Sparks!", A.6)."""
    return (after - before) / (after + before + 1e-6)
