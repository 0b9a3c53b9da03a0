"""The network: two transformer streams with joint attention, its parametrization and its FLOPs."""
