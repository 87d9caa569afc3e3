"""Distillation: matching objectives, pipelines, and selection of real images."""
