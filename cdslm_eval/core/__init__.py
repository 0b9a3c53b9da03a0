"""What every layer may import: errors, audio, clip sets, the store, table records, provenance, figure style."""
