"""Mutual information estimated by training a critic (MINE): `MINE().fit(x, z).estimate_`."""

from dim.mine.estimator import MINE

__all__ = ["MINE"]
