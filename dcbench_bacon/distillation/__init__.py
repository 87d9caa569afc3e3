"""Distillation: objectives, and the pipelines that use them."""
