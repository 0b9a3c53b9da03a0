"""Objects of S3, Google Cloud Storage and the Hugging Face hub, read by ranges through fsspec."""
