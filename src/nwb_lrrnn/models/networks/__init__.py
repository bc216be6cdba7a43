"""Networks that are trained by gradients: their form, one step of them, many steps, and where they start."""
