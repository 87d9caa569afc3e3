"""Distillation and selection methods: one module and one recipe file each."""
