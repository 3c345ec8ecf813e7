"""What the interop suite drives: the peftkit binary and its peers."""
