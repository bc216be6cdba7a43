"""Reading and writing NWB: lazy xarray in, processing modules out."""
