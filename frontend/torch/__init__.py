"""PyTorch: exported programs (`.pt2` files and live ones) through their ATen operators, and state dicts.

Nothing here imports torch: a `.pt2` file is JSON and raw weights in a zip archive, a state dict is a pickle that is
read by a restricted reader, and live programs are taken apart by their attributes.
"""
