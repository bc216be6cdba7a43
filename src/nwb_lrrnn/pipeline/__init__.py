"""From a recording to a fit that can be judged, step by step, as the command and the batch run take them."""
