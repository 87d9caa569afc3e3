"""Recipes: tables of hyper-parameters, their digests and the evaluation protocols."""
