"""A whole domain on one machine: its files and its processes. For `mcsa up`, the demo and tests."""
