"""Random streams and seeds that depend on names alone."""

import hashlib

import torch


def stream(key: str, purpose: str) -> torch.Generator:
    """Return the random stream of a run and a purpose, on the CPU.

    Args:
        key: the name of the run, which is usually the name of its cell.
        purpose: the name of the stream.
    """
    return torch.Generator().manual_seed(stable_seed(key, purpose))


def stable_seed(*parts: object) -> int:
    """Return a number of 63 bits that depends on the text of the parts alone."""
    text = "\x1f".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1
