"""Synthetic sets as pictures: files for print, thumbnails, and what trackers keep."""
