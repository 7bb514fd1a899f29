"""The intermediate representation: types, operations, kernels, text form and interpreter."""
