"""Examples that a checkout offers; none of them is installed with the package."""
