"""From the tree of a file to xarray: what is in it, what can be fitted, and how it is read. Never writes."""
