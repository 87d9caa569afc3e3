"""Devices, memory, precision and compilation."""
