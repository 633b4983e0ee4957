"""Size, speed and memory of networks, and the tables and plots of them."""
