"""tomoglean: from raw 3D volumes to answers, in one reproducible pipeline."""

__version__ = "0.1.0"
