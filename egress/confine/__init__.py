"""What surrounds a sandboxed process: its environment, and the rules that leave the proxy as its only way out."""
