"""MindIR, MindSpore's model format, of all its versions: files to plain data (proto.py), graphs to tensor form."""
