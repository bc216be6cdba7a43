"""What a fitted network does: fixed points, flow, connectivity, metrics."""
