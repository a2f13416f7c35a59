"""How `transforms.sources` reads: columns of a file -> a layout, rows -> blocks, one module a family of formats."""
