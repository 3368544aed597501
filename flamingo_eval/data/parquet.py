"""Pictures as bytes in a table (Parquet, or Arrow files of Hub datasets), read cell by cell when needed."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flamingo_eval.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

ARROW_SUFFIX = ".arrow"


def read_columns(path: Path, columns: list[str]) -> pa.Table:
    """Some columns of a table, without pictures."""
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
    """The bytes of one picture: a binary cell, or the `bytes` of a Hub image column.

    Raises OSError if the file is missing or damaged, as for an ordinary file, and if the cell has no bytes, with what
    it has instead.
    """
    import pyarrow as pa

    try:
        if path.suffix == ARROW_SUFFIX:
            value = _mapped(path, path.stat().st_mtime_ns)[column][row].as_py()
        else:
            value = _parquet_cell(path, column, row)
    except (pa.ArrowException, ValueError, KeyError, IndexError) as error:
        raise OSError(f"{column}, row {row}: {error}") from error
    data = value.get("bytes") if isinstance(value, dict) else value
    if isinstance(data, (bytes, bytearray)) and data:
        return bytes(data)
    raise OSError(f"column '{column}' {_instead_of_bytes(value)}")


def _instead_of_bytes(value: object) -> str:
    """A description of a cell without a picture's bytes."""
    if isinstance(value, dict):
        name = value.get("path")
        if name:
            return f"has the path '{name}' and no bytes, and there is no such file"
        return "has no bytes" if "bytes" in value else f"has an object with the keys {', '.join(map(str, value))}"
    if isinstance(value, list):
        return f"has a list of {len(value)}; expected one picture per row"
    return "is empty" if value is None or value in (b"", "") else f"holds {value!r:.60}, not a picture's bytes"


def paths_without_bytes(path: Path, column: str) -> dict[int, str]:
    """By row, the path in each cell of a Hub image column with a path and no bytes. Pictures are not read.

    Raises DataError for a damaged file.
    """
    return {row: name for row, name in cells_without_bytes(path, column).items() if name}


def cells_without_bytes(path: Path, column: str) -> dict[int, str]:
    """By row, the path in each cell without bytes of a Hub image column; "" if it has neither. Raises DataError."""
    import pyarrow as pa

    try:
        if path.suffix == ARROW_SUFFIX:
            return dict(_paths_in(_mapped(path, path.stat().st_mtime_ns)[column], 0))
        file = _parquet(path, path.stat().st_mtime_ns)
        paths: dict[int, str] = {}
        first = 0
        for group in range(file.metadata.num_row_groups):
            chunk = file.metadata.row_group(group)
            if _may_lack_bytes(chunk, column):
                paths |= _paths_in(file.read_row_group(group, columns=[column])[column], first)
            first += chunk.num_rows
        return paths
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as a table: {error}.", fix="Download it again.") from error


def _may_lack_bytes(group: Any, column: str) -> bool:
    """Whether a cell may have no bytes, by the row group's statistics."""
    for i in range(group.num_columns):
        leaf = group.column(i)
        if leaf.path_in_schema == f"{column}.bytes":
            statistics = leaf.statistics
            return statistics is None or not statistics.has_null_count or statistics.null_count > 0
    return False


def _paths_in(cells: Any, first: int) -> dict[int, str]:
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = cells.type
    if not pa.types.is_struct(kind) or {"bytes", "path"} - {kind.field(i).name for i in range(kind.num_fields)}:
        return {}
    has_bytes = pc.is_valid(pc.struct_field(cells, "bytes")).to_pylist()
    names = pc.struct_field(cells, "path").to_pylist()
    return {first + i: name or "" for i, name in enumerate(names) if not has_bytes[i]}


@lru_cache(maxsize=64)
def _mapped(path: Path, mtime_ns: int) -> pa.Table:
    """The table of an Arrow stream or file, mapped. `mtime_ns` is part of the key: a rewritten file is mapped again."""
    import pyarrow as pa

    del mtime_ns
    source = pa.memory_map(str(path))
    try:
        table = pa.ipc.open_stream(source).read_all()
    except pa.ArrowInvalid:
        table = pa.ipc.open_file(source).read_all()
    table.validate(full=True)  # memory mapping does not check a file's offsets: wrong ones would point anywhere
    return table


def _parquet_cell(path: Path, column: str, row: int) -> object:
    file = _parquet(path, path.stat().st_mtime_ns)
    n_rows = 0
    for group in range(file.metadata.num_row_groups):
        n = file.metadata.row_group(group).num_rows
        if row < n_rows + n:
            return _group(path, path.stat().st_mtime_ns, column, group)[row - n_rows].as_py()
        n_rows += n
    raise IndexError(f"the table has {n_rows} rows")


@lru_cache(maxsize=64)
def _parquet(path: Path, mtime_ns: int) -> Any:
    import pyarrow.parquet as pq

    del mtime_ns
    return pq.ParquetFile(path)


@lru_cache(maxsize=4)  # a row group is decoded as a whole, and may have a hundred megabytes of pictures
def _group(path: Path, mtime_ns: int, column: str, group: int) -> Any:
    return _parquet(path, mtime_ns).read_row_group(group, columns=[column])[column]
