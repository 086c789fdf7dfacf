"""Raw files to documents: readers of every format, encodings, section marks, and the documents on disk.

`stage.write_documents` is the way in; `document.Document` is what comes out. No torch anywhere in this package.
"""
