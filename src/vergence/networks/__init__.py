"""Networks: backbones, heads, targets, the queue, and how views pass through them."""
