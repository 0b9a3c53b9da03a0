"""Built-in metrics, recognizers and generators, registered through the same hooks as any plugin."""
