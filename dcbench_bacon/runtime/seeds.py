"""Seeds that depend on names alone."""

import hashlib

import torch


def stream(key: str, purpose: str) -> torch.Generator:
    """Return the stream that a clock of the key has for one purpose on the CPU."""
    return torch.Generator().manual_seed(stable_seed(key, purpose))


def stable_seed(*parts: object) -> int:
    """63 bits that depend on the text of the parts alone."""
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1
