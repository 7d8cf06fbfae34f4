from popdyn.files import files_below, write_manifest  # noqa: F401
def store_files(p):
    return files_below(p)
