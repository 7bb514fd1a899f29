"""The kernel form: nests of stages over quasi-affine maps. docs/KERNEL.md has its grammar."""
