"""The sentences of datasets/FORMAT.md: what the page says and what the validator enforces."""

__all__ = ["RULES"]

RULES = {
    "root": "A store is a folder whose `zarr.json` is the document of a Zarr v3 group.",
    "nodes": "It holds the groups `train` and `test`, each with the arrays `x`, `count` and "
    "`time`; further groups, one level deep, may stand beside them.",
    "files": "It holds no file but the metadata documents, the chunks of the arrays' grids and "
    "`popdyn.json`; what file systems leave (`.DS_Store`, `._*`, `.nfs*`, `Thumbs.db`) is not "
    "counted.",
    "chunks": "Every chunk of every grid is there, those that hold only padding too, and in a "
    "shard every inner chunk that lies in the array.",
    "checksum": "Every array ends its codecs with `crc32c`, inside its shards and on their index "
    "too, and every chunk agrees with its checksum.",
    "codecs": "`x`, `count` and `time` are stored little-endian and compressed with `zstd` in "
    "chunks of the default key encoding.",
    "consolidated": "The root document repeats the documents of all nodes as consolidated "
    "metadata.",
    "digest": '`popdyn.json`, written last, is an object with `popdyn` = "store", `format` = 2 and '
    "`files`, which gives for every other file, by path, the SHA-256 of its bytes; its `digest` "
    "is that of `files` as JSON with sorted keys and without spaces.",
    "x": "`x` has the dimensions (time, particle, component), type float32 and fill value NaN.",
    "count": "`count` has the dimension (time), type int64 and fill value -1.",
    "time": "`time` has the dimension (time), type float64, fill value NaN and the attribute "
    '`units` = "1".',
    "grid": "A chunk and a shard of `x` hold one time, a block of particles and all components; "
    "`count` and `time` are one chunk each.",
    "sizes": "The dimension time has one length of 1 or more in the whole store, component one "
    "of 1 or more, and particle is as long as the largest count of its group.",
    "times": "The times are finite, strictly increasing and the same in both groups.",
    "counts": "A count is 1 or more in `train`, 0 or more in `test`.",
    "positions": "The first `count` rows of a snapshot are finite, all others NaN.",
    "format": "The root attribute `popdyn_format` is 2 (or 1, see the end of the page).",
    "complete": "The root attribute `complete` is true.",
    "text": "The root attributes `title` and `history` are texts.",
    "source": "The root attribute `source` maps popdyn and its dependencies to their versions, "
    "which are texts.",
    "observation": 'The root attribute `observation` is "unpaired" or "paired"; in a paired '
    "store, where row i is the same particle at all times, the counts of a group are equal.",
    "dynamics": "The root attribute `dynamics` is null or an object from which popdyn rebuilds the "
    "true Dynamics.",
    "initial": "The root attribute `initial` is null or an object.",
    "scheme": "The root attribute `scheme` is null or a text.",
    "step": "The root attribute `step` is null, a number above 0, or a list with one for each "
    "interval.",
    "seed": "The root attribute `seed` is null or a whole number of 0 or more.",
    "standardize": "The root attribute `standardize`, where there is one, is an object with the "
    '`method` "none", "global" or "component", and one `mean` and one `scale` above 0 for '
    "each component: original = x · scale + mean.",
}
