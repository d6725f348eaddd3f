"""What happens to a model: train, promote, predict, serve, monitor, reproduce."""
