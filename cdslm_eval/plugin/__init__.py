"""The plugin interface: contract, hooks, the host that finds and guards plugins, and shared model loading."""
