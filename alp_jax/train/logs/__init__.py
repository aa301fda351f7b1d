"""What a run says of itself while it trains: rates, where they are written, and a line for people."""
