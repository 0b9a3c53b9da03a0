"""Results of scaling studies as JSON, text and figures."""
