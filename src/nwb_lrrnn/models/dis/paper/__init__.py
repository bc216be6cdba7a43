"""The objective of arXiv 2511.13899 as published, with its encoders and its training."""
