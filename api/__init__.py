"""The REST API: a projection of durable facts, it holds no state of its own."""
