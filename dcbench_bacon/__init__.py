"""dcbench distils image data sets, evaluates the result and prints the tables.

The package is imported by every command, so it imports nothing heavy itself.
"""

from importlib.metadata import version

__version__ = version("dcbench-bacon")
