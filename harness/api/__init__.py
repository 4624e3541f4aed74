"""What `import retainbench` offers: the verbs as functions, with DataFrames instead of files.

The command line calls the same functions. `harness/package` is the top of the installed package.
"""
