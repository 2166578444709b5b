"""The client of the practice's webhook endpoints. It connects only to public addresses, and follows no redirect."""
