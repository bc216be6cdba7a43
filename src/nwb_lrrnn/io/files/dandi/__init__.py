"""The DANDI archives, through their own client: what an address names, and what a dandiset holds."""
