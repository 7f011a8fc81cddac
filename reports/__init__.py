"""Reports: records in, tables, figures, exports and a sentence of verdict out.

`frame` makes a tidy pandas frame of the records; everything else reads that frame. Raw bytes and seconds
until the last moment: `units` is the only formatting, `tables` the only file that builds Rich tables,
`figures` the only package that imports matplotlib (importing this one does not).
"""
