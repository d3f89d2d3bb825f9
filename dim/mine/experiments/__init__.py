"""The experiments of MINE (Belghazi et al. 2018): `dim mine NAME` runs the function NAME of the module NAME."""
