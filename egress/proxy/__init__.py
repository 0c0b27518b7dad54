"""The front: the listener, and the lanes `tunnel` and `http`. What they do not carry is handed over. Knows no mitmproxy."""
