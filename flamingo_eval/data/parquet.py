"""Pictures that lie as bytes in a table (Parquet, or Arrow files of Hub datasets), read cell by cell when needed."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flamingo_eval.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

ARROW_SUFFIX = ".arrow"


def read_columns(path: Path, columns: list[str]) -> pa.Table:
    """Some columns of a table: pictures are left where they are."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix == ARROW_SUFFIX:
            return _mapped(path, path.stat().st_mtime_ns).select(columns)
        table = pq.read_table(path, columns=columns)
        table.validate(full=True)  # texts that are not UTF-8
        return table
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as a table: {error}.", fix="Download it again.") from error


def read_schema(path: Path) -> pa.Schema:
    """Names and types of a table's columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix == ARROW_SUFFIX:
            return _mapped(path, path.stat().st_mtime_ns).schema
        return pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as a table: {error}.", fix="Download it again.") from error


def cell_bytes(path: Path, column: str, row: int) -> bytes:
    """The bytes of one picture: a binary cell, or the `bytes` of a Hub image column. b"" where the cell is empty.

    Raises OSError where the file is gone or damaged, as reading a file of its own would.
    """
    import pyarrow as pa

    try:
        if path.suffix == ARROW_SUFFIX:
            value = _mapped(path, path.stat().st_mtime_ns)[column][row].as_py()
        else:
            value = _parquet_cell(path, column, row)
    except (pa.ArrowException, ValueError, KeyError, IndexError) as error:
        raise OSError(f"{column}, row {row}: {error}") from error
    if isinstance(value, dict):
        value = value.get("bytes")
    return bytes(value) if isinstance(value, (bytes, bytearray)) else b""


@lru_cache(maxsize=64)
def _mapped(path: Path, mtime_ns: int) -> pa.Table:
    """The table of an Arrow stream or file, mapped. `mtime_ns` is part of the key: a rewritten file is mapped anew."""
    import pyarrow as pa

    del mtime_ns
    source = pa.memory_map(str(path))
    try:
        table = pa.ipc.open_stream(source).read_all()
    except pa.ArrowInvalid:
        table = pa.ipc.open_file(source).read_all()
    table.validate(full=True)  # mapping takes a file's offsets on trust: wrong ones would point anywhere in memory
    return table


def _parquet_cell(path: Path, column: str, row: int) -> object:
    file = _parquet(path, path.stat().st_mtime_ns)
    before = 0
    for group in range(file.metadata.num_row_groups):
        n = file.metadata.row_group(group).num_rows
        if row < before + n:
            return _group(path, path.stat().st_mtime_ns, column, group)[row - before].as_py()
        before += n
    raise IndexError(f"the table has {before} rows")


@lru_cache(maxsize=64)
def _parquet(path: Path, mtime_ns: int) -> Any:
    import pyarrow.parquet as pq

    del mtime_ns
    return pq.ParquetFile(path)


@lru_cache(maxsize=4)  # a row group is decoded as a whole, and may hold a hundred megabytes of pictures
def _group(path: Path, mtime_ns: int, column: str, group: int) -> Any:
    return _parquet(path, mtime_ns).read_row_group(group, columns=[column])[column]
