"""Groups beside ``train`` and ``test``, such as a reference density: small, written whole."""

from pathlib import Path

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore

from popdyn.snapshots.layout import ZSTD_LEVEL

__all__ = ["write_extra"]


def write_extra(path: Path, group: str, dataset: xr.Dataset) -> None:
    """Write one further group: every variable one chunk, with a checksum."""
    root = LocalStore(path)
    node = zarr.create_group(root, path=group, attributes=dict(dataset.attrs), overwrite=True)
    for name, variable in dataset.variables.items():
        values = np.ascontiguousarray(variable.values)
        array = node.create_array(
            str(name),
            shape=values.shape,
            chunks=tuple(max(1, n) for n in values.shape),
            dtype=values.dtype,
            dimension_names=[str(dim) for dim in variable.dims],
            compressors=[ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()],
            config={"write_empty_chunks": True},
            attributes=dict(variable.attrs),
        )
        array[...] = values
